"""`bwc-agent ctl`: ask a running recorder over its local socket."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import output
from agent.cli.prompts import ask_recorder

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The running recorder's configuration file.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

ctl_app = typer.Typer(
    help="Start a recording, mark a moment, show the status. Nothing here stops a recording.",
    no_args_is_help=True,
)


@ctl_app.command("start")
def start(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Start a recording, including the pre-event seconds.

    If a recording is running, it continues.

    Exit codes: 0 a recording is running; 2 no recorder answers.

    Example: bwc-agent ctl start --config pilot/device/config.toml
    """
    answer = ask_recorder(config, {"ask": "start"})
    output.line(json.dumps(answer) if as_json else f"recording {answer['recording']}")


@ctl_app.command("mark")
def mark(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Mark this moment of the running recording.

    Exit codes: 0 marked; 1 no recording is running; 2 no recorder answers.

    Example: bwc-agent ctl mark --config pilot/device/config.toml
    """
    answer = ask_recorder(config, {"ask": "mark"})
    recording = answer["recording"]
    output.line(
        json.dumps(answer) if as_json else (f"marked in {recording}" if recording else "standby: nothing to mark")
    )
    if not recording:
        raise typer.Exit(1)


@ctl_app.command("status")
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show the recorder's status: mode, camera, storage, clock and more.

    Exit codes: 0 all is well; 1 camera, storage, an input or the configuration has a fault; 2 no recorder answers.

    Example: bwc-agent ctl status --config pilot/device/config.toml --json
    """
    answer = ask_recorder(config, {"ask": "status"})
    if as_json:
        output.line(json.dumps(answer))
    else:
        for line in _lines(answer):
            output.line(line)
    replaced = answer["configuration"]["origin"] != "file"
    if answer["storage_failing"] or not answer["source_delivering"] or answer["faulty_lines"] or replaced:
        raise typer.Exit(1)


def _lines(status: dict[str, Any]) -> list[str]:
    free = status["storage_free_bytes"]
    left = status["time_left_s"]
    within = status["clock_within_ms"]
    syncs = status["sync_ms"]
    tracks = ", ".join(f"{kind} {track['codec']}" for kind, track in status["tracks"].items()) or "no track yet"
    running = f"{status['recording']}, {status['recording_s']:.0f} s" if status["recording"] else ""
    return [
        f"{status['device']} of {status['agency']}, boot {status['boot']}, up {status['uptime_s']:.0f} s",
        f"mode      {status['mode']} {running}".rstrip(),
        f"policy    {status['policy']}",
        f"camera    {'delivers' if status['source_delivering'] else 'DOWN'} ({status['source']}; {tracks})",
        f"memory    {status['memory_bytes'] / 1e6:.1f} MB, {status['backlog_ms'] / 1000:.1f} s wait for storage",
        "storage   "
        + ("FAILS; recording continues in memory" if status["storage_failing"] else "works")
        + (f", {free / 1e9:.1f} GB free" if free is not None else "")
        + (f", {left / 3600:.1f} h left" if left is not None else "")
        + (f"; a sync takes {syncs['p50']} ms, 1 in 100 more than {syncs['p99']} ms" if syncs["count"] else ""),
        f"clock     {status['clock']}" + (f", within {within} ms" if within is not None else ", accuracy unknown"),
        f"power     {_power(status['power'])}",
        f"requests  {status['requests']}, refused {status['refused']}",
        f"dock      {_dock(status)}",
        *(f"input     {line} is not trusted" for line in status["faulty_lines"]),
        *_configuration(status["configuration"]),
    ]


def _dock(status: dict[str, Any]) -> str:
    if status["docked"]:
        return f"docked, attested by {status['station']}"
    return "contact closed, but no station attests it" if status["dock_contact"] else "not docked"


def _configuration(configuration: dict[str, Any]) -> list[str]:
    """What differs between the file and the configuration in force; empty if nothing does."""
    lines = []
    if configuration["origin"] != "file":
        lines.append(
            f"config    {configuration['origin'].replace('_', ' ').upper()}, not the file: {configuration['problem']}"
        )
    if configuration["pending"]:
        lines.append(f"config    a restart puts {', '.join(configuration['pending'])} in force")
    return lines


def _power(power: dict[str, Any]) -> str:
    parts = []
    if power["battery_percent"] is not None:
        going = {True: ", charging", False: ", discharging", None: ""}[power["charging"]]
        parts.append(f"battery {power['battery_percent']:.0f} %{going}")
    if power["celsius"] is not None:
        parts.append(f"{power['celsius']:.0f} °C")
    parts += [word for word in ("undervoltage", "throttled") if power[word]]
    if power["saving"] != "none":
        parts.append(
            "bit rate lowered"
            if power["bit_rate_lowered"]
            else "bit rate should be lower, but this source can't lower it"
        )
    return ", ".join(parts) or "unknown"
