"""`bwc-agent doctor`: is this device fit for a shift?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agent import output


class _Terminal:
    """Somebody in front of a terminal."""

    def tell(self, text: str) -> None:
        output.line(f"---> {text}")

    def confirms(self, question: str) -> bool:
        while True:
            answer = output.ask(f"---> {question} [y/N]: ").strip().lower()
            if answer in {"", "y", "yes", "n", "no"}:
                return answer.startswith("y")


def doctor_command(
    config: Annotated[Path, typer.Option("--config", help="The configuration file (TOML).", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON; asks nothing.")] = False,
    hardware: Annotated[
        bool, typer.Option("--hardware", help="Test what is wired, with your eyes and fingers; end the recorder first.")
    ] = False,
) -> None:
    """Check configuration, clock, storage, camera, keys, inputs, swap and core dumps: one line each, with the mend.

    With --hardware instead: camera, encoder, sound, lines, buttons, lights, gauge, supply, clocks, watchdog, storage.
    With --json as well, or without a terminal to ask on, it leaves out the steps that need a person, and says so.

    Exit code 0: fit for a shift; 1: something is not well; 2: the configuration can't be read, and neither
    the last good one nor key and certificates can.

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
        problem = f"{error}; a recorder starts with the {origin} one, and what follows is of that"
    clocks = SystemClocks()
    if hardware:
        from agent.doctor.hardware_checks import Bench, check_hardware

        if ask_running(configuration.resolve(config, loaded.run.directory)) is not None:
            raise ConfigError("a recorder runs with this configuration and holds what is to be tested; end it first")
        pilot = None if as_json or not output.can_ask() else _Terminal()
        found = check_hardware(Bench(loaded, config, clocks, pilot))
    else:
        found = check_all(loaded, config, clocks, Path("/"), problem)
    for finding in found:
        findings.append(finding)
        if not as_json:
            output.line(f"{'ok  ' if finding.good else 'BAD '} {finding.check:<15} {finding.said}")
            if finding.mend:
                output.line(f"     {'':<15} mend: {finding.mend}")
    bad = sum(not finding.good for finding in findings)
    if as_json:
        output.data({"fit": not bad, "findings": [{**asdict(each), "good": each.good} for each in findings]})
    else:
        output.line(
            f"{len(findings)} checks, {bad} not well" if bad else f"{len(findings)} checks, all well: fit for a shift"
        )
    if bad:
        raise typer.Exit(1)
