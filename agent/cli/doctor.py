"""`bwc-agent doctor`: is this device fit for a shift?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def doctor_command(
    config: Annotated[Path, typer.Option("--config", help="The configuration file (TOML).", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check clock, storage, camera, keys, permissions, inputs, swap and core dumps: one line each, with the mend.

    Exit code 0: fit for a shift; 1: something is not well; 2: the configuration can't be read.

    Example: bwc-agent doctor --config pilot/device/config.toml
    """
    from agent import config as configuration
    from agent.clock import SystemClocks
    from agent.recorder.checks import check_all

    findings = []
    loaded = configuration.load(config)
    for finding in check_all(loaded, config, SystemClocks()):
        findings.append(finding)
        if not as_json:
            print(f"{'ok  ' if finding.good else 'BAD '} {finding.check:<15} {finding.said}")
            if finding.mend:
                print(f"     {'':<15} mend: {finding.mend}")
    bad = sum(not finding.good for finding in findings)
    if as_json:
        print(json.dumps({"fit": not bad, "findings": [{**asdict(found), "good": found.good} for found in findings]}))
    else:
        print(
            f"{len(findings)} checks, {bad} not well" if bad else f"{len(findings)} checks, all well: fit for a shift"
        )
    if bad:
        raise typer.Exit(1)
