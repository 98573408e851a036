"""What a journal line is trusted for, by the kind of its entry: one table for all readers of journals.

Whoever holds the card can append lines: the format is public, and the chain consists of hashes alone. So:

1. A line is *attested* if a verified checkpoint of its own boot covers it (see `agent.journal.attested`).
2. An attested line is trusted for everything that it says.
3. An unattested line is trusted only if its kind is in `RESTRICTING`, and only for what it restricts: it can latch,
   raise a trigger or use up a limit, each within a bound. It can end, release, continue, reset or refill nothing.
4. The recorder stores a line that permits something, or explains why something is missing, and the checkpoint that
   signs it in one write. So a genuine loss of power leaves such a line unattested only if it interrupted that write:
   the file then ends within the checkpoint. Anywhere else an unattested line of such a kind is forged, and `verify`
   calls the journal altered.
5. A kind that is in none of these sets is treated like one that permits: trusted only if attested, and signed at once.
"""

from agent.journal import entries
from agent.journal.entries import Entry

RESTRICTING: frozenset[type[Entry]] = frozenset(
    {
        entries.Authorised,  # for the latch that it sets; a release only if attested
        entries.Classified,
        entries.Requested,
        entries.RecordingStarted,
        entries.StopTakenBack,
        entries.TriggerRaised,
        entries.Voided,
        entries.Withheld,  # for the limit that it uses up; what it explains only if attested
    }
)
"""Kinds whose unattested lines are trusted for what they restrict."""

ATTESTED: frozenset[type[Entry]] = frozenset(
    {
        entries.Checkpoint,
        entries.SegmentClosed,
        entries.SegmentOpened,
        entries.SegmentRecovered,
        entries.StorageBack,
        entries.StorageFailed,
    }
)
"""Kinds that later boots trust only if attested; the next regular checkpoint is soon enough to sign them."""

SIGNED_AT_ONCE: frozenset[type[Entry]] = frozenset(
    {
        entries.Authorised,
        entries.Boot,
        entries.Continued,
        entries.Decided,  # a grant; a refusal permits nothing
        entries.PolicyChanged,
        entries.PoweringOff,
        entries.RecordingEnded,
        entries.Released,
        entries.ShutDown,
        entries.Withheld,
    }
)
"""Kinds that permit, end, release or explain: written together with their checkpoint."""

SIGNED_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in SIGNED_AT_ONCE)
"""Their names in the journal; of `decided` only a grant is signed at once."""

NEUTRAL: frozenset[type[Entry]] = frozenset(
    {
        entries.BitRateSet,
        entries.ClockChanged,
        entries.ClockTakenBack,
        entries.ConfigurationUsed,
        entries.Declared,
        entries.DockContact,
        entries.Docked,
        entries.InputFault,
        entries.InputRecovered,
        entries.Interrupted,
        entries.KeySwitched,
        entries.Marked,
        entries.Measured,
        entries.PacketsLost,
        entries.PostRollBegan,
        entries.PowerFailing,
        entries.Refused,
        entries.RunningLow,
        entries.SelfTested,
        entries.SlowSync,
        entries.SourceFailed,
        entries.SourceGap,
        entries.SpeechMeasured,
        entries.StandbyEntered,
        entries.StealthSet,
        entries.StorageRead,
        entries.Strained,
        entries.Tampered,
        entries.TriggerLevel,
    }
)
"""Kinds that no later boot acts on."""


def restricts(entry: Entry) -> bool:
    """True if an unattested line with this entry is trusted for what it restricts."""
    return type(entry) in RESTRICTING


def needs_signature(entry: Entry) -> bool:
    """True if the recorder signs a line with this entry in the write that stores it; also for kinds not listed here."""
    kind = type(entry)
    if kind in SIGNED_AT_ONCE:
        return not isinstance(entry, entries.Decided) or entry.allowed
    return kind not in RESTRICTING and kind not in ATTESTED and kind not in NEUTRAL
