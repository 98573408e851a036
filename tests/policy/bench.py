"""What the policy costs: loading, deciding, memory. Run with `python -m tests.policy.bench`.

Budgets on a workstation: a decision 2 ms at the median with all packs loaded; loading and validating 300 ms at start.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

DECISION_BUDGET_MS = 2.0
LOAD_BUDGET_MS = 300.0
_ROUNDS = 5


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    before = time.perf_counter()
    result = call()
    return (time.perf_counter() - before) * 1e3, result


def _report(name: str, milliseconds: list[float]) -> float:
    ordered = sorted(milliseconds)
    median, late = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"{name:<44} median {median:7.3f} ms   99 % {late:7.3f} ms   n {len(ordered)}")
    return median


def main() -> int:
    """Prints the figures; 1 if a budget is exceeded."""
    start_mb = _resident_mb()
    imported_ms, _ = _timed(lambda: __import__("cedarpy"))
    cedar_mb = _resident_mb() - start_mb
    code_ms, _ = _timed(lambda: __import__("agent.policy.engine"))
    code_mb = _resident_mb() - start_mb - cedar_mb

    from agent.policy.analysis import dead_rules
    from agent.policy.engine import Engine
    from agent.policy.packs import BUILT_IN, shipped, shipped_names

    one_ms, _ = _timed(lambda: Engine(shipped("us-nj")))
    one_mb = _resident_mb() - start_mb - cedar_mb - code_mb
    names = (*shipped_names(), BUILT_IN)
    rest_ms, engines = _timed(lambda: {name: Engine(shipped(name)) for name in names})
    all_mb = _resident_mb() - start_mb - cedar_mb - code_mb
    dead_ms = [_timed(partial(dead_rules, shipped(name)))[0] for name in names]
    print(
        f"import of cedarpy {imported_ms:.1f} ms, {cedar_mb:.1f} MB; of agent.policy.engine besides {code_ms:.1f} ms, "
        f"{code_mb:.1f} MB"
    )
    print(f"first pack (schema and base rules too): load, validate, make ready {one_ms:.1f} ms, {one_mb:.1f} MB")
    print(f"all {len(names)} packs {one_ms + rest_ms:.1f} ms (budget {LOAD_BUDGET_MS:.0f}), {all_mb:.1f} MB")
    print(f"search for dead rules, as a bundle undergoes it: slowest pack {max(dead_ms):.1f} ms")

    from agent.policy.request import Fact, Request, worked_request
    from agent.policy.schema import ATTRIBUTES
    from tests.support.policy import own_cases

    def requests() -> Iterator[tuple[str, Request, bool]]:
        for name in names:
            for case in own_cases(name):
                for changes in (None, *case.flips):
                    document = case.request(changes)
                    yield name, worked_request(document), False
                    facts = {
                        each: Fact(value, ATTRIBUTES[each].provenances[0])
                        for each, value in {
                            "enforcement_mode": "none",
                            "triggers_active": [],
                            "critical_incident": False,
                            **document["context"],
                        }.items()
                    }
                    yield name, Request(document["principal"], document["action"], facts), True

    kinds: dict[str, list[float]] = {}
    every = list(requests())
    for _ in range(_ROUNDS):
        for name, request, field in every:
            spent, decision = _timed(partial(engines[name].decide, request))
            kind = f"{'field' if field else 'worked case'}, {'allowed' if decision.allow else 'denied'}"
            kinds.setdefault(kind, []).append(spent)
    for kind in sorted(kinds):
        _report(kind, kinds[kind])
    median = _report("all", [spent for each in kinds.values() for spent in each])
    return int(median > DECISION_BUDGET_MS or one_ms + rest_ms > LOAD_BUDGET_MS)


if __name__ == "__main__":
    sys.exit(main())
