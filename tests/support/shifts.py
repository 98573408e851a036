"""Shifts for tests that read journals: a whole device under a signed policy, and a core's lines in no time at all."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.audit.replay_events import CoreInput
from agent.clock import NS
from agent.core.recording import commands, events, machine
from agent.core.recording.state import State
from agent.decisions.signed import SignedPolicy
from agent.domain.layout import TWO_BUTTONS
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.encoding.strict_json import encode_json
from agent.evidence import layout
from agent.evidence.details import KEY_BYTES, DetailsKey
from agent.journal import entries
from agent.journal.format import Journal, Line, parse_line
from agent.keys import files
from agent.keys.signer import KeySigner
from agent.policy.bundle import sign_bundle
from agent.policy.packs import shipped
from agent.policy.store import BundleFiles, PolicyStore
from agent.seal.recipients import AnyRecipientKey
from agent.storage.interface import Storage
from tests.support.clocks import FakeClocks
from tests.support.device import Device, agency, trust
from tests.support.storage import MemoryStorage

LIMITS = Limits(post_roll_s=2, pause_s=6, pause_total_s=10, mute_s=4, mute_total_s=6, reminder_s=60)


def custodian() -> AnyRecipientKey:
    """A key that opens sealed details."""
    return files.load_recipient_key(agency().custodian)


def under_signed_policy(pack: str = "us-il", version: int = 1) -> Device:
    """A device on which a signed bundle is in force."""
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, pack, version)
    return Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))


def publish_bundle(storage: Storage, clocks: FakeClocks, pack: str, version: int) -> None:
    signer = files.load_signer(f"file:{agency().policy}")
    now_ns = clocks.wall().utc_ns
    token = sign_bundle(
        signer,
        agency=trust().agency,
        version=version,
        not_before_ns=now_ns - 3600 * NS,
        expires_ns=now_ns + 3600 * NS,
        pack=(pack, shipped(pack).text),
        gestures=TWO_BUTTONS,
        limits=LIMITS,
    )
    BundleFiles(storage, layout.POLICY).keep(version, token)


def signed_policy(storage: Storage, clocks: FakeClocks) -> SignedPolicy:
    keys = [entry.key for entry in trust().keys if entry.role == "policy"]

    def make(seen_version: int) -> PolicyStore:
        return PolicyStore(BundleFiles(storage, layout.POLICY), keys, trust().agency, seen_version)

    return SignedPolicy(make, clocks, pre_event_s=5, pre_event_audio=True)


class Desk:
    """A core whose lines are made as a recorder makes them, without packets, files or threads.

    The policy is a hash: it grants about half of what is asked, the same each time for the same facts.
    """

    def __init__(self, settings: PolicySettings, carried: entries.PersistedState | None = None) -> None:
        self.clocks = FakeClocks(monotonic_ns=100 * NS)
        self._key = DetailsKey(os.urandom(KEY_BYTES))
        self._journal = Journal(
            device="cam-1",
            boot=1,
            signer=KeySigner.generate(),
            details=self._key,
            clocks=self.clocks,
            head="0" * 64,
        )
        self.state = State(settings=settings, tag="tag")
        self.lines: list[CoreInput] = []
        self.decided: list[events.Decided] = []
        self._durable: list[int] = []
        self._carried = carried or entries.PersistedState()
        self.write(entries.Boot(1, "tag", "", "0", 0, None, None, "first_boot", "", self._carried))

    def write(self, entry: entries.Entry, details: dict[str, object] | None = None) -> None:
        line = parse_line(self._journal.line(entry, details).rstrip(b"\n"))
        self.lines.append(CoreInput(line, line.details(self._key)))

    def boot(self, interrupted: str) -> None:
        """Storage was read. The policy comes into force first, as on a device."""
        now = self.clocks.now_ns
        self.send(events.PolicyChanged(now, "policy_in_force", 1, "p", self.state.settings))
        self.send(events.Booted(now, interrupted, self._carried))

    def send(self, event: events.Event) -> None:
        event = replace(event, at_ns=min(event.at_ns, self.clocks.now_ns))
        self.state, issued = machine.step(self.state, event)
        for command in issued:
            match command:
                case commands.AppendEntry():
                    self.write(command.entry, dict(command.details))
                    if command.token:
                        self._durable.append(command.token)
                case commands.Decide():
                    answer = decide(command)
                    self.decided.append(answer)
                    self.send(answer)
                case commands.OpenRecording():
                    opened = events.RecordingOpened(
                        command.at_ns, command.recording, command.cause, 30_000, 29_000, 0, "just_booted"
                    )
                    self.send(opened)
                case _:
                    pass

    def sync(self) -> None:
        """All lines so far are on storage."""
        waiting, self._durable = self._durable, []
        for token in waiting:
            self.send(events.Durable(self.clocks.now_ns, token))

    def wait(self, ns: int) -> None:
        """Time passes, and each deadline gets its tick, a little late as on a device."""
        until_ns = self.clocks.now_ns + ns
        while (due_ns := machine.next_deadline_ns(self.state)) is not None and due_ns <= until_ns:
            self.clocks.now_ns = max(self.clocks.now_ns, due_ns) + 1_234_567
            self.send(events.Tick(self.clocks.now_ns))
        self.clocks.now_ns = max(self.clocks.now_ns, until_ns)


def decide(command: commands.Decide) -> events.Decided:
    """A policy without a meaning, but with a memory: the same facts, the same answer."""
    seed = hashlib.sha256(encode_json(command.request.record())).digest()
    allowed = seed[0] % 2 == 0
    missing = (("speak",), ("capture",), ("authorise",), ())[seed[1] % 4]
    return events.Decided(
        at_ns=command.at_ns,
        request=command.number,
        allowed=allowed,
        policy="p",
        rules=(f"rule.{seed[2] % 3}",),
        obligations=("log_reason_code",),
        missing=() if allowed else missing,
        declared_only=allowed and seed[3] % 2 == 0,
    )


def only(lines: Sequence[Line], kinds: Iterable[type[entries.Entry]]) -> list[Line]:
    """Lines of these kinds."""
    wanted = tuple(kinds)
    return [line for line in lines if isinstance(line.entry, wanted)]
