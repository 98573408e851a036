"""The policy officer's page is true: its example is built from the page, signed, and put into a recorder."""

import re
import shlex
from pathlib import Path

import msgspec
import pytest

from agent.clock import NS
from agent.core.recording.state import Mode
from agent.domain.limits import Limits
from agent.domain.patterns import Kind, Pattern, parse_pattern
from agent.evidence import layout
from agent.journal import entries
from agent.keys import files
from agent.policy import obligations
from agent.policy.bundle import Bundle, read_bundle, sign_bundle
from agent.policy.reach import BROUGHT, Obstacle
from agent.policy.schema import ACTIONS, ATTRIBUTES, FACTS, PARAMETERS, Provenance
from agent.policy.store import BundleFiles
from agent.policy.terms import Terms
from agent.trust.document import read_unpinned
from tests.support.clocks import FakeClocks
from tests.support.commands import Ran, bwc_agent
from tests.support.device import Device, agency, trust
from tests.support.shifts import signed_policy
from tests.support.storage import MemoryStorage
from tests.support.wearer import Wearer

PAGE = Path("docs/policy.md").resolve()
TEXT = PAGE.read_text("utf-8")
EXAMPLES = ("millbrook.cedar", "cases.json", "first.toml", "settings.toml")
ROWS = re.findall(
    r"^\| (nothing|`[^|]*`) \| `([^|]*)` \| (refuses|stops|pauses)(?: by `([\w.-]+)`)? \|$", TEXT, re.MULTILINE
)


def block(name: str) -> str:
    """What stands in the fence after an example's name."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def run(line: str) -> Ran:
    """A command of the page."""
    program, *arguments = shlex.split(line)
    assert program == "bwc-agent"
    return bwc_agent(*arguments)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that somebody gets who follows the page to the letter."""
    folder = tmp_path_factory.mktemp("millbrook")
    for name in EXAMPLES:
        (folder / name).write_text(block(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in block("commands sign").splitlines():
            if " publish " not in line:  # needs a broker
                assert run(line).code == 0, line
        document = read_unpinned(Path("pilot/agency/trust.jws").read_text().strip())
        keys = [entry.key for entry in document.keys if entry.role == "policy"]
        return read_bundle(Path("policy-2.jws").read_text().strip(), keys, "millbrook-pd")


@pytest.mark.parametrize(("attempt", "code"), [("first", 3), ("second", 0)])
def test_the_commands_of_the_example_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: str, code: int
) -> None:
    for name in EXAMPLES:
        (tmp_path / name).write_text(block(name))
    monkeypatch.chdir(tmp_path)
    ran = run(block(f"command {attempt}").strip())
    assert (ran.code, ran.out, ran.err) == (code, block(f"output {attempt}"), "")


def test_signing_the_first_attempt_warns_and_signing_the_second_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EXAMPLES:
        (tmp_path / name).write_text(block(name))
    monkeypatch.chdir(tmp_path)
    init, sign, show, card, _ = block("commands sign").splitlines()
    assert run(init).code == 0
    assert "WARNING" not in run(sign).err
    assert "millbrook.victim" in run(show).out
    assert run(card).code == 0
    assert "General order 12.2: a victim may ask, and is heard asking" in Path("card.html").read_text()
    first = run(sign.replace("settings.toml", "first.toml").replace("policy-2", "policy-3"))
    assert first.code == 0
    assert "WARNING: millbrook.victim: StopRecording, PrivacyPause: nothing reaches it alone" in first.err


def patterns(text: str) -> list[Pattern]:
    return [parse_pattern(each) for each in re.findall(r"`([^`]+)`", text)]


def test_the_table_of_presses_has_grants_and_refusals() -> None:
    assert (
        len(ROWS) == TEXT.count("\n", TEXT.index("<!-- example: presses -->"), TEXT.index("The last line is worth")) - 4
    )
    assert {row[2] for row in ROWS} == {"refuses", "stops", "pauses"}


@pytest.mark.parametrize(("does", "asks", "camera", "rule"), ROWS)
def test_the_core_does_what_the_table_says(bundle: Bundle, does: str, asks: str, camera: str, rule: str) -> None:
    wearer = Wearer(bundle.pack, bundle.gestures)
    for each in [parse_pattern("double:record"), *patterns(does), parse_pattern(asks)]:
        assert [gesture.pattern for gesture in wearer.press(each)] == [each]
    [decided] = wearer.decisions
    assert decided.allowed is (camera != "refuses")
    assert decided.rules == ((rule,) if rule else decided.rules)
    assert wearer.mode is {"refuses": Mode.RECORDING, "stops": Mode.POST_ROLL, "pauses": Mode.PRIVACY}[camera]


def test_no_single_gesture_but_those_of_the_table_reaches_a_stop(bundle: Bundle) -> None:
    granted = set()
    for pattern in bundle.gestures.patterns:
        wearer = Wearer(bundle.pack, bundle.gestures)
        wearer.press(parse_pattern("double:record"))
        wearer.press(pattern)
        wearer.press(parse_pattern("hold 3s:record"))
        if wearer.mode is Mode.POST_ROLL:
            granted.add(f"`{pattern}`")
    assert granted == {does for does, asks, camera, _ in ROWS if camera == "stops" and does.count("`") == 2}


@pytest.mark.parametrize(("does", "asks", "camera"), [row[:3] for row in ROWS])
def test_a_recorder_under_the_bundle_does_what_the_table_says(
    bundle: Bundle, does: str, asks: str, camera: str
) -> None:
    clocks, storage = FakeClocks(), MemoryStorage()
    now_ns = clocks.wall().utc_ns
    token = sign_bundle(
        files.load_signer(f"file:{agency().policy}"),
        agency=trust().agency,
        version=1,
        not_before_ns=now_ns - 3600 * NS,
        expires_ns=now_ns + 3600 * NS,
        pack=(bundle.pack.name, bundle.pack.text),
        gestures=bundle.gestures,
        limits=bundle.limits,
    )
    BundleFiles(storage, layout.POLICY).keep(1, token)
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(1)
    for each in [parse_pattern("double:record"), *patterns(does), parse_pattern(asks)]:
        if each.kind is Kind.HOLD:
            device.press(each.lines[0], hold_s=each.hold_s + 0.2)
        else:
            device.press(each.lines[0], times=each.presses)
    device.run(bundle.limits.post_roll_s + 1)
    [decided] = device.entries(entries.Decided)
    assert isinstance(decided, entries.Decided)
    assert decided.allowed is (camera != "refuses")
    ended = device.entries(entries.RecordingEnded)
    suppressed = device.entries(entries.Withheld)
    assert bool(ended) is (camera == "stops")
    assert bool(suppressed) is (camera == "pauses")
    assert bool(device.recording) is (camera != "stops")


def names(mark: str) -> list[str]:
    """The names in code between a mark and its end."""
    found = re.search(rf"<!-- {mark} -->(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert found, mark
    return re.findall(r"`(\w+)`", found[1])


def test_the_page_lists_what_a_camera_is_told_and_what_it_never_is() -> None:
    assert set(names("brought")) == set(BROUGHT) - {"authorization"}
    declared = {name for name in FACTS if Provenance.DECLARED in ATTRIBUTES[name].provenances}
    assert set(names("never")) == set(FACTS) - set(BROUGHT) - declared


def test_the_page_lists_parameters_limits_demands_and_obligations() -> None:
    assert tuple(names("parameters")) == PARAMETERS
    assert tuple(names("limits")) == tuple(field.name for field in msgspec.structs.fields(Limits))
    assert tuple(names("terms")) == tuple(field.name for field in msgspec.structs.fields(Terms))
    assert tuple(names("before")) == obligations.BEFORE
    assert tuple(names("device")) == obligations.BY_DEVICE
    assert tuple(names("people")) == obligations.BY_PEOPLE


def test_the_page_lists_every_action_and_every_obstacle() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXT, re.MULTILINE)) >= {*ACTIONS, *Obstacle}
