"""The table of packages in docs/architecture.md, made of the code: what each is for, and which others it imports.

`python -m tests.docs.packages` rewrites it. Imports within functions count; imports for type checkers alone do not.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import agent

ROOT = Path(agent.__file__).parent
PAGE = ROOT.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- packages: begin -->", "<!-- packages: end -->"


def packages() -> list[str]:
    """Names of the packages in `agent/`, sorted."""
    return sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _statements(node)


def imports(package: str) -> set[str]:
    """The other packages and top-level modules of `agent` that a package imports."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in _statements(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module] if node.module != "agent" else [f"agent.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            found |= {name.split(".")[1] for name in names if name.startswith("agent.")}
    return found - {package}


def purpose(package: str) -> str:
    """The first line of a package's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def table() -> str:
    """The table as Markdown."""
    known = set(packages())
    rows = []
    for name in packages():
        others = ", ".join(f"`{other}`" for other in sorted(imports(name) & known))
        rows.append(f"| `{name}` | {purpose(name)} | {others or 'none'} |")
    return "\n".join(["| package | purpose | imports |", "| --- | --- | --- |", *rows])


def rewritten(page: str) -> str:
    """The page with the table as the code has it."""
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert begun, f"expected {BEGIN} in the page"
    assert ended, f"expected {END} in the page"
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
