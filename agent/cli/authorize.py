"""`bwc-agent authorize`: a supervisor's signed leave for one act, in one recording, within minutes, once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, ask_recorder, login_name, passphrase_of

if TYPE_CHECKING:
    from agent.trust.document import TrustDocument

_TRUST = "trust.jws"


def authorize_command(
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="The signing key of who gives leave.", show_default=False)
    ],
    action: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="StopRecording, PrivacyPause, Mute, PowerOff, LatchCriticalIncident or ReleaseCriticalIncident.",
            show_default=False,
        ),
    ],
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The camera's name. With --send: this one.", show_default=False)
    ] = None,
    recording: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The recording's id. With --send: the running one.", show_default=False),
    ] = None,
    authority: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="NAME",
            help="supervisor_onscene, supervisor_remote, prosecutor or investigator. By default the key's own; of a "
            "supervisor's, supervisor_remote: who is on the scene has to say so.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="officer, corporal, sergeant or lieutenant. By default the key's own.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who gives leave; sealed in the journal. By default the login name.",
            show_default=False,
        ),
    ] = None,
    valid_s: Annotated[int, typer.Option("--valid-s", min=1, max=900, help="How long it is good, in seconds.")] = 300,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="The agency's trust document. By default that of --config, else trust.jws beside the key or one "
            "folder up.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write it to a file that does not exist.", show_default=False),
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Hand it to the recorder of --config on this machine.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The recorder's configuration file.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was signed as JSON.")] = False,
) -> None:
    """Sign an authorisation, and print it, write it to a file, or hand it to the recorder.

    It is good once, for one action on one camera in one recording, and ends nothing by itself: the wearer still asks
    and the policy still decides. What the camera would refuse for the key's role or rank is not signed.

    Exit code 0: signed, and with --send taken by the recorder; 2: not signed, or refused by the recorder.

    Example: bwc-agent authorize --key supervisor.pem --device camera-7 --recording 3f9a1c20b7d4-0002 --action
    StopRecording --valid-s 120
    """
    import os

    from agent.clock import NS, SystemClocks, utc_text
    from agent.keys.files import load_signer
    from agent.trust import authorization
    from agent.trust.document import RANKS

    _one_of("--action", action, authorization.ACTIONS)
    _one_of("--type", authority, tuple(authorization.OFFICES))
    _one_of("--rank", rank, RANKS)
    recorder = config if send else None
    if send and recorder is None:
        raise typer.BadParameter("which recorder? Name its configuration file with --config", param_hint="--send")
    agency = _trust(trust, config, key)
    signer = load_signer(f"file:{key}", passphrase_of(key, passphrase_file))
    now_ns = SystemClocks().wall().utc_ns
    entry = agency.listed(signer.kid, authorization.ROLES, now_ns)
    own = next(given for given, office in authorization.OFFICES.items() if office.role == entry.role)
    leave: dict[str, Any] = {"action": action, "authority": authority or own, "rank": rank or entry.rank or RANKS[0]}
    authorization.check_office(entry, **leave)
    if recorder is not None and not (device and recording):
        status = ask_recorder(recorder, {"ask": "status"})
        device, recording = device or status["device"], recording or status["recording"]
    place = {"device": _given("--device", device), "recording": _given("--recording", recording)}
    token = authorization.issue(
        signer,
        agency=agency.agency,
        authoriser=name or login_name(),
        now_ns=now_ns,
        random_bytes=os.urandom,
        valid_s=valid_s,
        **place,
        **leave,
    )
    if out is not None:
        _write(out, token)
    answer = {"answer": ask_recorder(recorder, {"ask": "authorize", "token": token})} if recorder is not None else {}
    expires = utc_text((now_ns // NS + valid_s) * NS)
    if as_json:
        said = {"type": leave.pop("authority"), "expires": expires, "token": token}
        output.line(json.dumps(place | leave | said | answer))
    elif out is None and recorder is None:
        output.line(token)
    else:
        done = "taken by the recorder" if answer else f"written to {out}"
        output.line(f"{action} of {recording} on {device}, by {leave['authority']}, until {expires}: {done}")


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"expected one of {', '.join(allowed)}, got {value!r}", param_hint=option)


def _given(option: str, value: str | None) -> str:
    if not value:
        raise typer.BadParameter("it is needed, unless --send finds a recording that is running", param_hint=option)
    return value


def _trust(trust: Path | None, config: Path | None, key: Path) -> "TrustDocument":
    """Not pinned: the camera checks against its own; here it says what the camera would say."""
    from agent.config import recorder as configuration
    from agent.errors import KeyFileError
    from agent.keys.files import read_token
    from agent.trust.document import read_unpinned

    if trust is None and config is not None:
        trust = configuration.resolve(config, configuration.load(config).device.trust)
    if trust is None:
        near = (key.parent / _TRUST, key.absolute().parent.parent / _TRUST)
        trust = next((path for path in near if path.exists()), None)
    if trust is None:
        raise KeyFileError(f"expected the agency's trust document as {_TRUST} beside {key}: name it with --trust")
    return read_unpinned(read_token(trust))


def _write(path: Path, token: str) -> None:
    """For its owner alone: whoever has it can hand it in."""
    from agent.errors import BwcError, StorageError
    from agent.keys.files import write_new

    try:
        write_new(path, token.encode("ascii") + b"\n", 0o600)
    except BwcError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"{path} was not written: {error.strerror}") from error
