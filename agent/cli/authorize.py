"""`bwc-agent authorize`: sign a supervisor's permission for one action in one recording, valid once for minutes."""

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
        Path, typer.Option("--key", metavar="FILE", help="The authoriser's signing key.", show_default=False)
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
            help="supervisor_onscene, supervisor_remote, prosecutor or investigator. By default the key's own; for a "
            "supervisor's key supervisor_remote, so a supervisor on the scene must name supervisor_onscene.",
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
            help="The authoriser's name, which is sealed in the journal. By default the login name.",
            show_default=False,
        ),
    ] = None,
    valid_s: Annotated[int, typer.Option("--valid-s", min=1, max=900, help="How long it is valid, in seconds.")] = 300,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="The agency's trust document. By default that of --config, else trust.jws beside the key or in the "
            "folder above.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write it to a new file.", show_default=False),
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Hand it to the running recorder of --config.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The recorder's configuration file.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was signed as JSON.")] = False,
) -> None:
    """Sign a supervisor's authorisation of one action.

    It is printed, written to a file (--out), or handed to the recorder (--send). It is valid once, for one action on
    one camera in one recording, and stops nothing by itself: the wearer still has to ask, and the policy still decides.
    What the camera would refuse because of the key's role or rank is not signed.

    Exit codes: 0 signed and, with --send, accepted by the recorder; 2 not signed, or refused by the recorder.

    Example: bwc-agent authorize --key supervisor.pem --device camera-7 --recording 3f9a1c20b7d4-0002 --action
    StopRecording --valid-s 120
    """
    import os

    from agent.clock import NS, SystemClocks, utc_text
    from agent.keys.files import load_signer, write_new
    from agent.trust import authorization
    from agent.trust.document import RANKS

    _one_of("--action", action, authorization.ACTIONS)
    _one_of("--type", authority, tuple(authorization.AUTHORITY_RULES))
    _one_of("--rank", rank, RANKS)
    recorder = config if send else None
    if send and recorder is None:
        raise typer.BadParameter("expected --config with the recorder's configuration file", param_hint="--send")
    agency = _trust(trust, config, key)
    signer = load_signer(f"file:{key}", passphrase_of(key, passphrase_file))
    now_ns = SystemClocks().wall().utc_ns
    entry = agency.listed(signer.kid, authorization.ROLES, now_ns)
    own = next(given for given, office in authorization.AUTHORITY_RULES.items() if office.role == entry.role)
    leave: dict[str, Any] = {"action": action, "authority": authority or own, "rank": rank or entry.rank or RANKS[0]}
    authorization.check_authority(entry, **leave)
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
        write_new(out, token.encode("ascii") + b"\n", 0o600)  # anyone who has the token can use it
    answer = {"answer": ask_recorder(recorder, {"ask": "authorize", "token": token})} if recorder is not None else {}
    expires = utc_text((now_ns // NS + valid_s) * NS)
    if as_json:
        validity = {"type": leave.pop("authority"), "expires": expires, "token": token}
        output.line(json.dumps(place | leave | validity | answer))
    elif out is None and recorder is None:
        output.line(token)
    else:
        done = "accepted by the recorder" if answer else f"written to {out}"
        output.line(f"{action} of {recording} on {device}, by {leave['authority']}, until {expires}: {done}")


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise typer.BadParameter(f"expected one of {', '.join(allowed)}, got {value!r}", param_hint=option)


def _given(option: str, value: str | None) -> str:
    if not value:
        raise typer.BadParameter(
            "expected a value: only --send can take it from a running recording", param_hint=option
        )
    return value


def _trust(trust: Path | None, config: Path | None, key: Path) -> "TrustDocument":
    """Not pinned: the camera checks against its own copy; this one predicts what the camera will answer."""
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
