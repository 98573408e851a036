"""Signs a shipped pack with the agency's policy key as the first bundle of a provisioned device."""

from pathlib import Path

from agent.clock import NS, Clocks
from agent.evidence import layout
from agent.keys.files import load_signer
from agent.policy.bundle import sign_bundle
from agent.policy.layouts import TWO_BUTTONS, shipped_layout
from agent.policy.packs import shipped
from agent.policy.store import BundleFiles
from agent.policy.terms import Terms
from agent.storage.disk import DiskStorage

_DAY_NS = 86_400 * NS
LIFETIME_DAYS = 365


def sign_first_bundle(
    folder: Path, agency: str, pack: str, clocks: Clocks, passphrase: str | None, *, buttons: str = TWO_BUTTONS
) -> None:
    """Sign `pack` as version 1 and put it in force on the device that was provisioned in `folder`.

    It is valid a day before now, for a device's clock may be behind.

    Args:
        folder: With the agency's keys and the device.
        agency: Its name.
        pack: A shipped pack's name.
        clocks: Tells the time.
        passphrase: Of the policy key; None if it has none.
        buttons: Which of the pack's layouts: one of `layouts.BUTTONS`.

    Raises:
        PolicyError: There is no such pack or layout.
        StorageError: The file system's own.
    """
    now_ns = clocks.wall().utc_ns
    token = sign_bundle(
        load_signer(f"file:{folder / 'agency' / 'policy' / 'policy.pem'}", passphrase),
        agency=agency,
        version=1,
        not_before_ns=now_ns - _DAY_NS,
        expires_ns=now_ns + LIFETIME_DAYS * _DAY_NS,
        pack=(pack, shipped(pack).text),
        gestures=shipped_layout(pack, buttons),
        # The bench's configuration simulates the buttons; only a bundle for a bench may allow that.
        device=Terms(simulated_pins=True),
    )
    evidence = folder / "device" / "evidence"
    evidence.mkdir(mode=0o700)
    BundleFiles(DiskStorage(evidence), layout.POLICY).keep(1, token)
