"""`bwc-agent doctor`: is this device fit for a shift?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agent import output


class _Terminal:
    """A person at the terminal."""

    def tell(self, text: str) -> None:
        output.line(f"---> {text}")

    def confirms(self, question: str) -> bool:
        while True:
            answer = output.ask(f"---> {question} [y/N]: ").strip().lower()
            if answer in {"", "y", "yes", "n", "no"}:
                return answer.startswith("y")


def doctor_command(
    config: Annotated[Path, typer.Option("--config", help="The configuration file (TOML).", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, without questions.")] = False,
    hardware: Annotated[
        bool, typer.Option("--hardware", help="Test what is wired, with your eyes and hands; stop the recorder first.")
    ] = False,
) -> None:
    """Check whether this camera is fit for a shift.

    Checks configuration, clock, storage, camera, keys, policy, inputs, swap and more: one line each, with the remedy
    for what is wrong. Run it with sudo on an installed camera: another user can't judge keys, evidence and state.

    With --hardware it checks camera, encoder, sound, lines, buttons, lights, battery, supply, clocks, watchdog and
    storage instead. With --json as well, or without a terminal, it leaves out the steps that need a person, and says
    so.

    Exit codes: 0 fit for a shift; 1 a check failed; 2 the configuration can't be read, and neither can the last good
    one nor key and certificates.

    Example: bwc-agent doctor --config pilot/device/config.toml
    """
    from agent.clock import SystemClocks
    from agent.config import recorder as configuration
    from agent.doctor.checks import ask_running, check_all
    from agent.errors import ConfigError
    from agent.recorder.configuration import replacement

    findings = []
    problem = ""
    try:
        loaded = configuration.load(config)
    except ConfigError as error:
        instead = None if hardware else replacement(config)
        if instead is None:
            raise
        loaded = instead.config
        origin = instead.origin.replace("_", " ")
        problem = f"{error}; a recorder would start with the {origin} one, which is checked below"
    clocks = SystemClocks()
    if hardware:
        import os

        from agent.doctor.checks import other_owner
        from agent.doctor.hardware_checks import Bench, check_hardware

        if owner := other_owner(loaded, config, os.geteuid()):
            raise ConfigError(f"the hardware of this camera belongs to {owner}: run with sudo")
        if ask_running(configuration.resolve(config, loaded.run.directory)) is not None:
            raise ConfigError("a recorder is running and holds what is to be tested; stop it first")
        operator = None if as_json or not output.can_ask() else _Terminal()
        found = check_hardware(Bench(loaded, config, clocks, operator))
    else:
        found = check_all(loaded, config, clocks, Path("/"), problem=problem)
    for finding in found:
        findings.append(finding)
        if not as_json:
            output.line(f"{'ok  ' if finding.good else 'BAD '} {finding.check:<15} {finding.said}")
            if finding.remedy:
                output.line(f"     {'':<15} remedy: {finding.remedy}")
    bad = sum(not finding.good for finding in findings)
    if as_json:
        output.data({"fit": not bad, "findings": [{**asdict(each), "good": each.good} for each in findings]})
    else:
        output.line(
            f"{len(findings)} checks, {bad} failed" if bad else f"{len(findings)} checks passed: fit for a shift"
        )
    if bad:
        raise typer.Exit(1)
