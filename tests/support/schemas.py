"""Writes the schemas that ship in the package: python -m tests.support.schemas."""

from pathlib import Path

from agent.dock import schemas

if __name__ == "__main__":
    for name, document in schemas.made().items():
        (Path(schemas.__file__).parent / f"{name}.json").write_text(schemas.text(document), "utf-8")
