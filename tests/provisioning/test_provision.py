import os
import stat
from pathlib import Path

import pytest

from agent.clock import NS
from agent.errors import EvidenceError, KeyFileError, ProvisioningError
from agent.evidence import annotation
from agent.keys import files
from agent.provisioning.agency import Provisioned, provision
from agent.seal.recipients import HpkeRecipientKey, RsaRecipientKey
from agent.trust import authorization
from agent.trust.certificates import verify_device
from agent.trust.document import Role, read_unpinned, verify_trust
from tests.support.clocks import FakeClocks

CLOCKS = FakeClocks()
NOW = CLOCKS.wall().utc_ns


def make(directory: Path, *, passphrase: str | None = None, rsa: bool = False) -> Provisioned:
    return provision(directory, "ex", "cam1", clocks=CLOCKS, random_bytes=os.urandom, passphrase=passphrase, rsa=rsa)


def test_everything_provisioned_fits_together(tmp_path: Path) -> None:
    made = make(tmp_path / "new" / "bench")
    root = files.load_signer(f"file:{made.root}")
    trust = verify_trust(files.read_token(made.trust), root.public_key)
    assert (trust.agency, trust.serial, trust.issued_ns) == ("ex", 1, NOW)
    roles: list[tuple[Role, Path]] = [
        ("policy", made.policy),
        ("supervisor", made.supervisor),
        ("investigator", made.investigator),
        ("prosecutor", made.prosecutor),
        ("custodian", made.custodian_signing),
        ("station", made.station),
    ]
    for role, path in roles:
        signer = files.load_signer(f"file:{path}")
        assert trust.key(signer.kid, role, NOW) == signer.public_key
    device = verify_device(files.read_token(made.device_certificate), trust, NOW)
    assert (device.agency, device.device) == ("ex", "cam1")
    assert files.load_signer(f"file:{made.device_key}").kid == device.kid
    assert files.read_token(made.device_trust) == trust.token
    keys = [files.load_recipient_key(path) for path in (made.custodian, made.oversight, made.offline)]
    kids = [key.recipient.kid for key in keys]
    assert all(isinstance(key, HpkeRecipientKey) for key in keys)
    assert [recipient.kid for recipient in trust.recipients("default", NOW)] == kids
    assert [recipient.kid for recipient in trust.recipients("restricted", NOW)] == kids[1:]
    assert made.custodian_rsa is None


def test_each_office_can_sign_what_devices_and_recordings_take_from_it(tmp_path: Path) -> None:
    made = make(tmp_path / "bench")
    trust = read_unpinned(files.read_token(made.trust))
    offices: tuple[tuple[Path, authorization.Authority, authorization.Action], ...] = (
        (made.prosecutor, "prosecutor", "StopRecording"),
        (made.investigator, "investigator", "LatchCriticalIncident"),
        (made.supervisor, "supervisor_remote", "StopRecording"),
    )
    for key, authority, action in offices:
        listed = trust.listed(files.load_signer(f"file:{key}").kid, authorization.ROLES, NOW)
        authorization.check_authority(listed, authority=authority, action=action, rank="officer")
    for key in (made.supervisor, made.custodian_signing):
        assert trust.listed(files.load_signer(f"file:{key}").kid, annotation.ROLES, NOW)


def test_what_was_provisioned_holds_on_a_device_whose_clock_is_some_hours_behind(tmp_path: Path) -> None:
    made = make(tmp_path / "bench")
    trust = read_unpinned(files.read_token(made.trust))
    assert trust.recipients("default", NOW - 20 * 3600 * NS)
    assert verify_device(files.read_token(made.device_certificate), trust, NOW - 20 * 3600 * NS)


def test_a_passphrase_protects_the_agencys_keys_and_the_device_starts_without_one(tmp_path: Path) -> None:
    made = make(tmp_path / "bench", passphrase="secret")
    keys = sorted((tmp_path / "bench" / "agency").rglob("*.pem"))
    assert len(keys) == 10
    assert all(files.needs_passphrase(path) for path in keys)
    assert b"BEGIN PRIVATE KEY" not in b"".join(path.read_bytes() for path in keys)
    assert files.load_recipient_key(made.offline, "secret").recipient.kid
    assert not files.needs_passphrase(made.device_key)


def test_an_rsa_custodian_is_added_if_asked(tmp_path: Path) -> None:
    made = make(tmp_path / "bench", rsa=True)
    assert made.custodian_rsa is not None
    key = files.load_recipient_key(made.custodian_rsa)
    assert isinstance(key, RsaRecipientKey)
    trust = read_unpinned(files.read_token(made.trust))
    assert key.recipient.kid in [recipient.kid for recipient in trust.recipients("default", NOW)]
    assert key.recipient.kid not in [recipient.kid for recipient in trust.recipients("restricted", NOW)]


def test_private_keys_and_their_folders_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make(tmp_path / "bench")
    finally:
        os.umask(before)
    for path in ((tmp_path / "bench"), *(tmp_path / "bench").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o644 if path.suffix == ".jws" else 0o600), path


def test_no_private_key_of_the_agency_goes_to_the_device(tmp_path: Path) -> None:
    made = make(tmp_path / "bench")
    assert sorted(path.name for path in made.device.iterdir()) == ["device.jws", "device.pem", "trust.jws"]


def test_each_office_has_a_folder_of_its_own(tmp_path: Path) -> None:
    make(tmp_path / "bench", rsa=True)
    folders = [path for path in (tmp_path / "bench" / "agency").iterdir() if path.is_dir()]
    assert len(folders) == 10
    # The custodian opens with one key and signs with the other.
    assert {folder.name for folder in folders if len(list(folder.iterdir())) != 1} == {"custodian"}


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_a_second_provisioning_overwrites_nothing(tmp_path: Path) -> None:
    make(tmp_path / "bench")
    before = snapshot(tmp_path)
    with pytest.raises(ProvisioningError, match="never overwritten"):
        make(tmp_path / "bench")
    assert snapshot(tmp_path) == before


def test_what_is_in_the_way_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = snapshot(tmp_path)
    for name in ("file", "folder", "link", "dangling"):
        with pytest.raises(ProvisioningError):
            make(tmp_path / name)
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "empty", "file", "folder", "link"]


def test_an_empty_folder_may_be_provisioned(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    assert make(tmp_path / "bench").root.is_file()


def test_something_that_appears_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "bench"

    def intrude(building: Path) -> None:
        assert building.parent == tmp_path
        target.mkdir()
        (target / "file").write_text("precious")

    with pytest.raises(ProvisioningError):
        provision(target, "ex", "cam1", clocks=CLOCKS, random_bytes=os.urandom, finish=intrude)
    assert snapshot(tmp_path) == {str(target / "file"): b"precious"}
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


def test_a_provisioning_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(building: Path) -> None:
        (building / "device" / "config.toml").write_text("x")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        provision(tmp_path / "bench", "ex", "cam1", clocks=CLOCKS, random_bytes=os.urandom, finish=fail)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_appear_together_with_ours(tmp_path: Path) -> None:
    def finish(building: Path) -> None:
        (building / "device" / "config.toml").write_text("x")

    made = provision(tmp_path / "bench", "ex", "cam1", clocks=CLOCKS, random_bytes=os.urandom, finish=finish)
    assert (made.device / "config.toml").read_text() == "x"


@pytest.mark.parametrize(("agency", "device"), [("", "cam1"), ("ex", ""), ("../ex", "cam1"), ("ex", "a b")])
def test_a_name_that_is_none_leaves_nothing_behind(tmp_path: Path, agency: str, device: str) -> None:
    with pytest.raises(EvidenceError):
        provision(tmp_path / "bench", agency, device, clocks=CLOCKS, random_bytes=os.urandom)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_passphrase_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        make(tmp_path / "bench", passphrase="")
    assert list(tmp_path.iterdir()) == []
