import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import cli
from agent.evidence import layout
from agent.keys import files
from agent.media.packet import Kind
from tests.support.device import agency
from tests.support.evidence import Files, crashed, flipped, segments, whole, write
from tests.support.films import found, texts


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`bwc-agent open` as it is called, in this process."""

    def called(*args: str | Path) -> Ran:
        monkeypatch.setattr("sys.argv", ["bwc-agent", "open", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return called


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """The evidence folder of a device with three recordings."""
    return write(whole().files, tmp_path / "evidence")


def key() -> list[str | Path]:
    return ["--key", agency().custodian, "--trust", agency().trust]


def test_opened_recording_ends_with_exit_code_zero_and_a_summary(run: Run, evidence: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    ran = run(evidence / "recordings" / whole().a, *key(), "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert str(out) in ran.out.splitlines()[0]
    assert "pictures and" in ran.out
    assert f"checked: {len(segments(whole().files, whole().a))} segments in 1 recording" in ran.out
    assert "MISSING" not in ran.out
    assert len(found(out, Kind.VIDEO)) > 100
    assert out.stat().st_mode & 0o777 == 0o600
    assert not any("NOT VERIFIED" in text for _, _, text in texts(out))


def test_truncated_recording_ends_with_exit_code_one_and_names_the_loss(
    run: Run, evidence: Path, tmp_path: Path
) -> None:
    ran = run(evidence, "--recording", whole().b, *key(), "--out", tmp_path / "b.mp4")
    assert ran.code == 1
    missing = [line for line in ran.out.splitlines() if line.startswith("MISSING")]
    assert any("is cut (ended by power loss)" in line for line in missing)
    assert any("nothing was recorded for" in line for line in missing)
    assert any("bytes after its last whole frame are torn and not given back" in line for line in missing)
    assert not any("altered" in line for line in missing)


def test_unclosed_recording_ends_with_exit_code_one_and_is_named(run: Run, tmp_path: Path) -> None:
    folder = write(crashed(), tmp_path / "evidence")
    recording = whole().b
    ran = run(folder, "--recording", recording, *key(), "--out", tmp_path / "b.mp4")
    assert ran.code == 1
    assert "not closed: " in ran.out
    assert "the recording was not ended by a granted request" in ran.out


def test_several_recordings_are_listed_and_none_is_chosen(run: Run, evidence: Path, tmp_path: Path) -> None:
    ran = run(evidence, *key(), "--out", tmp_path / "x.mp4")
    assert ran.code == 2
    assert all(recording in ran.err for recording in whole().recordings)
    assert "--recording" in ran.err
    assert not (tmp_path / "x.mp4").exists()


def test_recording_that_is_not_there_is_refused(run: Run, evidence: Path, tmp_path: Path) -> None:
    ran = run(evidence, "--recording", "nope", *key(), "--out", tmp_path / "x.mp4")
    assert ran.code == 2
    assert "there is no recording nope" in ran.err


@pytest.mark.parametrize("where", [".", "empty", "missing"])
def test_folder_without_evidence_is_refused(run: Run, where: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run(tmp_path / where, *key(), "--out", tmp_path / "x.mp4")
    assert ran.code == 2
    assert ran.err.startswith("bwc-agent: ")


def altered(sample: Files, path: str) -> Files:
    return sample | {path: flipped(sample[path], len(sample[path]) * 4)}


def test_altered_evidence_is_refused_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    sample = whole()
    victim = segments(sample.files, sample.a)[0]
    folder = write(altered(sample.files, victim), tmp_path / "evidence")
    ran = run(folder, "--recording", sample.a, *key(), "--out", tmp_path / "a.mp4")
    assert ran.code == 2
    assert "not intact" in ran.err
    assert "0001.seg" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


def test_altered_evidence_opened_unverified_is_marked_in_the_film(run: Run, tmp_path: Path) -> None:
    sample = whole()
    victim = segments(sample.files, sample.a)[0]
    folder = write(altered(sample.files, victim), tmp_path / "evidence")
    ran = run(folder, "--recording", sample.a, *key(), "--out", tmp_path / "a.mp4", "--unverified")
    assert ran.code == 1
    assert "NOT VERIFIED" in ran.out
    assert "MISSING: segment 1 could not be opened, or not to its end" in ran.out
    assert all(text.startswith("NOT VERIFIED") for _, _, text in texts(tmp_path / "a.mp4"))


def test_alteration_of_another_recording_does_not_prevent_opening(run: Run, tmp_path: Path) -> None:
    sample = whole()
    victim = segments(sample.files, sample.c)[0]
    folder = write(altered(sample.files, victim), tmp_path / "evidence")
    assert run(folder, "--recording", sample.a, *key(), "--out", tmp_path / "a.mp4").code == 0


def test_wrong_key_is_refused_with_the_recipients_names(run: Run, evidence: Path, tmp_path: Path) -> None:
    from agent.seal.recipients import HpkeRecipientKey

    files.save_recipient_key(tmp_path / "other.pem", HpkeRecipientKey.generate(), None, os.urandom)
    ran = run(evidence, "--recording", whole().a, "--key", tmp_path / "other.pem", "--out", tmp_path / "a.mp4")
    assert ran.code == 2
    assert "custodian" in ran.err
    assert "oversight" in ran.err
    assert not (tmp_path / "a.mp4").exists()


def test_passphrase_comes_from_a_file_and_is_asked_for_by_name(run: Run, evidence: Path, tmp_path: Path) -> None:
    protected = tmp_path / "custodian.pem"
    files.save_recipient_key(protected, files.load_recipient_key(agency().custodian), "a long one", os.urandom)
    common: list[str | Path] = [evidence, "--recording", whole().a, "--key", protected, "--out", tmp_path / "a.mp4"]
    ran = run(*common)
    assert ran.code == 2
    assert "--passphrase-file" in ran.err
    for name, text in (("wrong", "another\n"), ("right", "a long one\nand nothing else\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    ran = run(*common, "--passphrase-file", tmp_path / "wrong")
    assert ran.code == 2
    assert "passphrase is wrong" in ran.err
    assert run(*common, "--passphrase-file", tmp_path / "right").code == 0


def test_existing_file_is_refused_before_anything_is_checked(run: Run, evidence: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"mine")
    ran = run(evidence, "--recording", whole().a, *key(), "--out", tmp_path / "a.mp4")
    assert ran.code == 2
    assert "is there already" in ran.err
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"


def test_json_holds_everything(run: Run, evidence: Path, tmp_path: Path) -> None:
    ran = run(evidence, "--recording", whole().b, *key(), "--out", tmp_path / "b.mp4", "--json")
    assert ran.code == 1
    reported = json.loads(ran.out)
    assert reported["verified"] is True
    assert reported["complete"] is False
    assert reported["closed"] is True
    assert reported["recording"] == whole().b
    assert reported["files"][0]["path"] == str(tmp_path / "b.mp4")
    assert {gap["cause"] for gap in reported["files"][0]["gaps"]} == {"power loss"}
    assert [segment["number"] for segment in reported["segments"]] == list(range(1, len(reported["segments"]) + 1))
    assert any(event["details"] for event in reported["events"])
    assert reported["missing"]


def test_segments_are_written_separately_on_request(run: Run, evidence: Path, tmp_path: Path) -> None:
    ran = run(evidence, "--recording", whole().a, *key(), "--out", tmp_path / "a.mp4", "--segments")
    assert ran.code == 0
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == [
        f"a-{number:04d}.mp4" for number in range(1, len(segments(whole().files, whole().a)) + 1)
    ]


def test_recording_folder_without_a_journal_opens_without_marks(run: Run, tmp_path: Path) -> None:
    sample = whole()
    prefix = f"{layout.recording(sample.a)}/"
    alone = {path.removeprefix(prefix): data for path, data in sample.files.items() if path.startswith(prefix)}
    ran = run(write(alone, tmp_path / "alone"), *key(), "--out", tmp_path / "a.mp4")
    assert ran.code == 0
    assert "no journal of boot 1 is beside the recording" in ran.out


def test_help_names_the_exit_codes(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    assert "Exit code 0" in ran.out


def test_events_are_printed_as_sentences(run: Run, evidence: Path, tmp_path: Path) -> None:
    ran = run(evidence / "recordings" / whole().a, *key(), "--out", tmp_path / "a.mp4")
    events = [line for line in ran.out.splitlines() if line.startswith("event: ")]
    assert any(" requested: wearer" in line for line in events)
    assert not any(mark in line for line in events for mark in '{}[]"')
    assert not any(line.endswith("...") for line in events)
