"""`bwc-agent policy`: decide, explain, test, sign and show policies, at a workstation."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, passphrase_of

if TYPE_CHECKING:
    from agent.domain.decision import Decision
    from agent.domain.layout import Layout
    from agent.domain.limits import Limits
    from agent.policy.bundle import Bundle, Trigger
    from agent.policy.cases import Failure
    from agent.policy.engine import Engine
    from agent.policy.packs import Pack
    from agent.policy.terms import Terms

EXIT_BAD = 1
EXIT_REFUSED = 2
EXIT_WANTING = 3
"""No case fails, but a camera would refuse what the rules allow, for lack of a gesture."""

DEFAULT_LAYOUT = "two-buttons"

_MOST_BYTES = 1 << 20

PackOption = Annotated[
    str,
    typer.Option("--pack", help="A shipped pack's name, or a .cedar file.", metavar="NAME|FILE", show_default=False),
]
FieldOption = Annotated[
    bool, typer.Option("--field", help="Decide as a device does: what the request leaves out is unknown.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

LayoutOption = Annotated[
    str,
    typer.Option(
        "--layout",
        help="Gestures, if the settings name none: two-buttons or three-buttons, which is the shipped pack's own, or "
        "PACK:two-buttons for another's.",
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="TOML: [parameters], [gestures], [triggers.NAME], [limits], [device].", show_default=False
    ),
]
TrustOption = Annotated[
    Path | None,
    typer.Option("--trust", help="The agency's trust document, to check a bundle by.", show_default=False),
]

policy_app = typer.Typer(
    help="Decide, explain, test, sign, publish and show policies.",
    no_args_is_help=True,
)


@policy_app.command("decide")
def decide(
    pack: PackOption,
    field: FieldOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with exit code 1 for a denial.")] = False,
) -> None:
    """Decide one request: JSON in, JSON out.

    The request is read from standard input: {"principal", "action", "context", "parameters"}; what the context leaves
    out has its default. Printed is {"decision", "rules", "obligations", "missing"}: the rules that made the decision,
    what it demands, and for a denial what the nearest permit lacks. A request that names something unknown is denied,
    with "error" saying what.

    Exit codes: 0 decided (with --exit-code: 0 allow, 1 deny), 2 the request or pack is malformed.

    Example: echo '{"principal": "wearer", "action": "StopRecording", "context": {"encounter_state": "concluded"}}' |
    bwc-agent policy decide --pack us-il
    """
    engine = _engine(_pack(pack))
    document, error = _standard_input()
    decision = error or engine.decide_worked(document, field=field)
    output.line(json.dumps(_printed(decision, field=field)))
    if decision.error:
        output.warn(f"bwc-agent: {decision.error}")
        raise typer.Exit(EXIT_REFUSED)
    if exit_code and not decision.allow:
        raise typer.Exit(EXIT_BAD)


@policy_app.command("explain")
def explain(pack: PackOption, field: FieldOption = False) -> None:
    """Explain in words the decision on a request.

    The request is read as JSON from standard input. For a denial it lists what keeps each permit from firing, the
    nearest first. Exit codes: 0 explained, 2 malformed.

    Example: bwc-agent policy explain --pack us-nj < request.json
    """
    from agent.errors import PolicyError
    from agent.policy.prose import describe
    from agent.policy.request import worked_request

    engine = _engine(_pack(pack))
    document, error = _standard_input()
    if error:
        raise PolicyError(error.error)
    request = worked_request(document, field=field)
    decision = engine.decide(request)
    if decision.error:
        raise PolicyError(decision.error)
    for line in describe(engine, request, decision):
        output.line(line)


@policy_app.command("test")
def run_cases(
    cases: Annotated[
        Path | None, typer.Argument(help="A JSON file of worked cases; none tests the gestures alone.")
    ] = None,
    pack: Annotated[
        str,
        typer.Option(
            "--pack",
            help="A shipped pack's name, a .cedar file or a signed .jws.",
            metavar="NAME|FILE",
            show_default=False,
        ),
    ] = "",
    settings: SettingsOption = None,
    layout: LayoutOption = DEFAULT_LAYOUT,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run worked cases; tell which gestures reach each permit.

    The cases have the format of scenarios.json; each case and flip (a case with one fact changed) that fails is
    reported. Obligations fail a case if one that it lists is not carried. With --pack FILE every case is run against
    that file, with --pack NAME those that name another pack are left out, and without --pack each is run against the
    pack that it names.

    For each permit it says which gestures of the layout reach it, with what has to be measured or signed besides, or
    that nothing does. A case that the rules allow is tried with gestures that say nothing but what the case says. The
    layout is that of the settings, of the signed bundle, or the one named by --layout. Everything is decided as on a
    camera: what no gesture declares and nothing measures is unknown.

    Exit codes: 0 all pass, 1 a case fails, 2 a file or pack is malformed, 3 no case fails, but for lack of a gesture a
    camera would refuse what a permit or a case allows, or no stop can be reached at all. What no camera measures is a
    warning and changes no exit code.

    Example: bwc-agent policy test our-cases.json --pack our-pack.cedar --settings our-settings.toml
    """
    from agent.errors import PolicyError
    from agent.policy.cases import failures, read_cases
    from agent.policy.field_test import FieldTest

    listed = read_cases(_bytes(cases)) if cases is not None else []
    own = not pack or _is_file(pack) or pack.endswith(".jws")
    chosen = [case for case in listed if own or case.pack in ("", pack)]
    if cases is not None and not chosen:
        raise PolicyError(f"expected cases for the pack {pack} in {cases}, got none")
    if cases is None and not pack:
        raise PolicyError("expected a file of cases, --pack, or both, got neither")
    subject = _subjects(pack, settings, layout, trust)
    failed = [failure for case in chosen for failure in failures(case, lambda name: subject(name).engine)]
    flips = sum(len(case.flips) for case in chosen)
    by_pack: dict[str, FieldTest] = {}
    for name in [pack] if pack else dict.fromkeys(case.pack for case in chosen):
        of_pack = [case for case in chosen if pack or case.pack == name]
        tested = subject(name)
        by_pack[name] = FieldTest.run(tested.engine.pack, tested.layout, of_pack, tested.engine)
    wanting = any(each.wanting for each in by_pack.values())
    if as_json:
        report = {"cases": len(chosen), "flips": flips, "left_out": len(listed) - len(chosen)}
        camera = [each.record() for each in by_pack.values()]
        output.line(json.dumps({**report, "failed": [_failure(failure) for failure in failed], "camera": camera}))
    else:
        for failure in failed:
            flip = "" if failure.flip is None else f" flip {json.dumps(dict(failure.flip))}"
            output.line(
                f"FAILED {failure.case}{flip}: {failure.why}; rules: {', '.join(failure.decision.rules) or 'none'}"
            )
        left_out = f", {len(listed) - len(chosen)} of other packs left out" if len(chosen) < len(listed) else ""
        output.line(f"{len(chosen)} cases and {flips} flips, {len(failed)} failed{left_out}")
        for each in by_pack.values():
            for line in each.lines(ways=bool(pack)):
                output.line(line)
    if failed:
        raise typer.Exit(EXIT_BAD)
    if wanting:
        raise typer.Exit(EXIT_WANTING)


@policy_app.command("sign")
def sign(
    pack: Annotated[str, typer.Argument(help="A shipped pack's name, or a .cedar file.", metavar="NAME|FILE")],
    key: Annotated[str, typer.Option(help="The agency's policy key: file:PATH.", show_default=False)],
    agency: Annotated[str, typer.Option(help="The agency's name, as in its trust document.", show_default=False)],
    version: Annotated[int, typer.Option(help="Above every version signed before.", min=1, show_default=False)],
    target: Annotated[Path, typer.Option("--output", "-o", help="A file that does not exist.", show_default=False)],
    settings: SettingsOption = None,
    layout: LayoutOption = DEFAULT_LAYOUT,
    days: Annotated[int, typer.Option(help="Valid from now on for this many days.", min=1)] = 90,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Check a pack and sign it as a bundle for the agency's cameras.

    What a camera would refuse is not signed: a pack that is invalid under the schema, empty, or with a rule that can
    never fire. A permit that no gesture of the layout and nothing else on a camera reaches is signed, with a warning;
    `bwc-agent policy test` says more. Exit codes: 0 signed, 2 refused.

    Example: bwc-agent policy sign us-il --key file:policy.pem --agency city-pd --version 4 -o policy-4.jws
    """
    from agent.clock import NS, SystemClocks
    from agent.keys.files import load_signer, write_new
    from agent.policy.bundle import sign_bundle
    from agent.policy.prose import reach_warnings
    from agent.policy.reach import reaches

    table, triggers, limits, device = _settings(settings)
    name, text = _named_text(pack)
    gestures = _gestures(name, layout, table)
    scheme, _, path = (key if ":" in key else f"file:{key}").partition(":")
    secret = passphrase_of(Path(path), passphrase_file) if scheme == "file" else None
    now_ns = SystemClocks().wall().utc_ns
    token = sign_bundle(
        load_signer(f"{scheme}:{path}", secret),
        agency=agency,
        version=version,
        not_before_ns=now_ns,
        expires_ns=now_ns + days * 86_400 * NS,
        pack=(name, text),
        gestures=gestures,
        parameters=table.get("parameters"),
        triggers=triggers,
        limits=limits,
        device=device,
    )
    found = reaches(_loaded(name, text, table, triggers), gestures)
    write_new(target, token.encode("ascii"), 0o644)
    for warning in reach_warnings(found):
        output.warn(f"WARNING: {warning}")
    output.line(f"signed {pack} as version {version} of {agency}, valid for {days} days: {target}")


@policy_app.command("publish")
def publish(
    bundle: Annotated[Path, typer.Argument(help="A signed bundle (.jws).", show_default=False)],
    config: Annotated[Path, typer.Option(help="The publisher's configuration file.", show_default=False)],
    device: Annotated[
        str, typer.Option(help="Only to this device, which must be docked now.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Publish a signed bundle to the agency's cameras.

    It goes over the broker, and each camera puts it in force when it is docked. Refused are bundles that are unsigned,
    of another agency, not yet or no longer valid, or not what a camera would take. For the agency the broker keeps the
    newest. A camera still checks all of it, and refuses an older one.

    Exit codes: 0 the broker has it, 1 with --device: nobody reads it, for the device is not docked, 2 refused.

    Example: bwc-agent policy publish policy-4.jws --config pilot/agency/policy/publisher.toml
    """
    import msgspec

    from agent.clock import SystemClocks
    from agent.dock.config import load, with_absolute_paths
    from agent.dock.messages import Name
    from agent.errors import ConfigError
    from agent.keys.files import read_token
    from agent.station.config import PublisherConfig, pinned_trust
    from agent.station.publisher import Published, check_bundle, publish

    try:
        msgspec.convert(device or "any", Name)
    except msgspec.ValidationError as error:
        raise ConfigError(f"expected a device's name, got {device[:80]!r}") from error
    settings = load(config, PublisherConfig)
    clocks = SystemClocks()
    trust = pinned_trust(config, settings.publisher)
    checked = check_bundle(read_token(bundle), trust, clocks.wall().utc_ns)
    handed = publish(checked, with_absolute_paths(config, settings.broker), device=device or None, clocks=clocks)
    unread = handed is Published.UNREAD and bool(device)
    what = f"version {checked.version} ({checked.pack.name})"
    if as_json:
        summary = {"agency": checked.agency, "device": device or None, "version": checked.version}
        known = None if handed is Published.UNKNOWN else not unread
        output.line(json.dumps({**summary, "bundle": checked.digest, "delivered": known}))
    elif handed is Published.UNKNOWN:
        to = device or f"all cameras of {checked.agency}"
        output.line(f"{what} is with the broker, for {to}; over MQTT 3.1.1 it does not say whether it passes it on")
    elif unread:
        output.line(f"{device} is not docked: version {checked.version} did not reach it")
    elif device:
        output.line(f"{what} was handed to {device}, which judges it by itself")
    else:
        output.line(f"{what} is published to all cameras of {checked.agency}")
    if unread:
        raise typer.Exit(EXIT_BAD)


@policy_app.command("show")
def show(
    what: Annotated[
        str, typer.Argument(help="A shipped pack's name, a .cedar file or a signed .jws; none lists the packs.")
    ] = "",
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a pack, a signed bundle, or the list of packs.

    Of a pack it shows the rules, the laws that they follow, and the parameters. A bundle is checked against the policy
    keys of the trust document, whose root is named for you to compare. Exit codes: 0 shown, 2 malformed or not signed
    by one of them.

    Example: bwc-agent policy show us-nj --json
    """
    from agent.policy.packs import BUILT_IN, shipped_names
    from agent.policy.prose import outline

    if not what:
        names = [*shipped_names(), BUILT_IN]
        for text in [json.dumps(names)] if as_json else names:
            output.line(text)
        return
    head: dict[str, Any] = {}
    if what.endswith(".jws"):
        bundle, head = _bundle(Path(what), trust)
        shown = bundle.pack
    else:
        shown = _pack(what)
    if as_json:
        output.line(json.dumps(head | _pack_document(shown)))
        return
    for name, value in head.items():
        output.line(f"{name}: {value if isinstance(value, str | int) else json.dumps(value)}")
    for line in outline(shown):
        output.line(line)


@policy_app.command("card")
def card(
    bundle: Annotated[Path, typer.Argument(help="A signed bundle (.jws).", show_default=False)],
    trust: TrustOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A file that does not exist, for HTML.", show_default=False)
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print it as text.")] = False,
) -> None:
    """Make the wearer's cue card of a signed bundle.

    It is one sheet of A4 to print from a browser, or text. It says what each press does, what is granted and how to ask
    for it, what is refused, and what the camera's signals mean. The bundle is checked against the trust document as
    `policy show` does it.

    Exit codes: 0 made, 2 malformed, not signed, or the file exists.

    Example: bwc-agent policy card policy-4.jws --trust trust.jws --out card.html
    """
    from agent.errors import PolicyError
    from agent.keys.files import write_new
    from agent.provisioning.cue_card import card_html, card_text, cue_card

    if out is None and not text:
        raise PolicyError("expected --out FILE, --text, or both, got neither")
    made = cue_card(_bundle(bundle, trust)[0])
    if out is not None:
        write_new(out, card_html(made).encode(), 0o644)
    if text:
        for line in card_text(made):
            output.line(line)
    elif out is not None:
        output.line(f"card for {made.title}: {out}")


def _is_file(pack: str) -> bool:
    return pack.endswith(".cedar") or "/" in pack


def _bytes(path: Path) -> bytes:
    from agent.errors import PolicyError

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"expected a file at {path}: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise PolicyError(f"expected a file of at most {_MOST_BYTES} bytes, got a larger one: {path}")
    return data


def _text(path: Path) -> str:
    from agent.errors import PolicyError

    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"expected UTF-8 text in {path}") from error


def _named_text(pack: str) -> tuple[str, str]:
    """A pack's name and text, out of a file or this package."""
    from agent.policy.packs import shipped

    if _is_file(pack):
        return Path(pack).stem, _text(Path(pack))
    return pack, shipped(pack).text


def _pack(pack: str) -> "Pack":
    from agent.policy.packs import load_pack, shipped

    return load_pack(*_named_text(pack)) if _is_file(pack) else shipped(pack)


def _engine(pack: "Pack") -> "Engine":
    from agent.policy.engine import Engine

    return Engine(pack)


@dataclass(frozen=True)
class _Subject:
    """A pack as it would be signed, and what gestures would mean."""

    engine: "Engine"
    layout: "Layout"


def _subjects(pack: str, settings: Path | None, layout: str, trust: Path | None) -> "Callable[[str], _Subject]":
    """The pack and layout for a case's pack: the one that is asked for, else the case's own."""
    from functools import cache

    from agent.errors import PolicyError

    if pack.endswith(".jws") and settings is not None:
        raise PolicyError("expected a bundle, which is signed with its settings, or --settings, got both")
    table, triggers, _, _ = _settings(settings)

    @cache
    def subject(name: str) -> _Subject:
        if not name:
            raise PolicyError("expected a pack in every case, or --pack; got a case without")
        if name.endswith(".jws"):
            bundle, _ = _bundle(Path(name), trust)
            return _Subject(_engine(bundle.pack), bundle.gestures)
        short, text = _named_text(name)
        gestures = _gestures(short, layout, table)
        return _Subject(_engine(_loaded(short, text, table, triggers)), gestures)

    return lambda name: subject(pack or name)


def _gestures(pack: str, layout: str, table: dict[str, Any]) -> "Layout":
    """What gestures mean: by the settings if they say it, else by the named layout."""
    from agent.domain.layout import parse_layout
    from agent.policy.layouts import layout_for

    return parse_layout("bundle", table["gestures"]) if table.get("gestures") else layout_for(pack, layout)


def _loaded(name: str, text: str, table: dict[str, Any], triggers: "dict[str, Trigger]") -> "Pack":
    """A pack with the parameters and trigger names of the settings."""
    from agent.policy.packs import load_pack
    from agent.policy.schema import standard

    return load_pack(name, text, table.get("parameters"), standard().with_triggers(triggers))


def _standard_input() -> "tuple[object, Decision | None]":
    """The JSON object on standard input, or the denial that says what is wrong with it."""
    from agent.encoding.strict_json import strict_json
    from agent.errors import EvidenceError
    from agent.policy.engine import refused

    try:
        return strict_json(sys.stdin.buffer.read(_MOST_BYTES + 1)), None
    except EvidenceError as error:
        return None, refused(str(error))


def _printed(decision: "Decision", *, field: bool) -> dict[str, Any]:
    printed: dict[str, Any] = {
        "decision": "allow" if decision.allow else "deny",
        "rules": decision.rules,
        "obligations": decision.obligations,
        "missing": decision.missing,
    }
    if field:
        printed |= {"unknown": decision.unknown, "declared_only": decision.declared_only}
    return printed | ({"error": decision.error} if decision.error else {})


def _failure(failure: "Failure") -> dict[str, Any]:
    flip = None if failure.flip is None else dict(failure.flip)
    return {"case": failure.case, "flip": flip, "why": failure.why, **_printed(failure.decision, field=False)}


def _settings(path: Path | None) -> "tuple[dict[str, Any], dict[str, Trigger], Limits, Terms]":
    import tomllib

    import msgspec

    from agent.domain.limits import Limits
    from agent.errors import PolicyError
    from agent.policy.bundle import Trigger
    from agent.policy.terms import Terms

    if path is None:
        return {}, {}, Limits(), Terms()
    try:
        table = tomllib.loads(_text(path))
        if unknown := sorted(set(table) - {"parameters", "gestures", "triggers", "limits", "device"}):
            raise PolicyError(f"expected parameters, gestures, triggers, limits and device in {path}, got {unknown[0]}")
        triggers = msgspec.convert(table.get("triggers", {}), dict[str, Trigger])
        limits = msgspec.convert(table.get("limits", {}), Limits)
        return table, triggers, limits, msgspec.convert(table.get("device", {}), Terms)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PolicyError(f"expected settings in {path}: {error}") from error


def _bundle(path: Path, trust: Path | None) -> "tuple[Bundle, dict[str, Any]]":
    import msgspec

    from agent.clock import utc_text
    from agent.errors import PolicyError
    from agent.keys.files import read_token
    from agent.policy.bundle import read_bundle
    from agent.trust.document import read_unpinned

    if trust is None:
        raise PolicyError("expected --trust with the agency's trust document, to check the bundle's signature by")
    document = read_unpinned(read_token(trust))
    keys = [entry.key for entry in document.keys if entry.role == "policy" and entry.validity.revoked_ns is None]
    bundle = read_bundle(read_token(path), keys, document.agency)
    return bundle, {
        "agency": bundle.agency,
        "root": document.root_kid,
        "version": bundle.version,
        "not_before": utc_text(bundle.not_before_ns),
        "expires": utc_text(bundle.expires_ns),
        "bundle": bundle.digest,
        "gestures": bundle.gestures.text(),
        "triggers": msgspec.to_builtins(dict(bundle.triggers)),
        "limits": msgspec.to_builtins(bundle.limits),
        "device": msgspec.to_builtins(bundle.device),
    }


def _pack_document(pack: "Pack") -> dict[str, Any]:
    from agent.policy.syntax import to_text

    return {
        "pack": pack.name,
        "digest": pack.digest,
        "parameters": dict(pack.parameters),
        "rules": [
            {
                "id": rule.id,
                "effect": "permit" if rule.permit else "forbid",
                "principal": rule.principal,
                "actions": rule.actions,
                "condition": to_text(rule.condition),
                "source": rule.source,
                "obligations": rule.obligations,
                "compels": rule.compels,
            }
            for rule in pack.rules
        ],
    }
