"""The one table, as text that a README can take over."""

from collections.abc import Sequence
from typing import Any

from tests.bench import machine, picamera
from tests.bench.rounds import Amount, Figures, Rounds, Spread, ratio
from tests.bench.stream import Described

MB = 1e6
NONE = "-"
HEAD = ("", "CPU µs a picture", "least-most", "x (b)", "x (b) started", "MB/s", "peak MB", "above its base")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: Spread | None) -> str:
    return NONE if value is None else f"{value.median:.2f} ({value.least:.2f}-{value.most:.2f})"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a Markdown table, the first one its head, in columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
        if number == 0:
            lines.append(f"| {'-' * widths[0]} | {' | '.join('-' * (width - 1) + ':' for width in widths[1:])} |")
    return lines


class Table:
    """Makes the table.

    Args:
        figures: What was measured.
        described: On which stream.
        amount: How much of it.
    """

    def __init__(self, figures: Figures, described: Described, amount: Amount) -> None:
        self._figures = figures
        self._rounds = Rounds(figures)
        self._described = described
        self._amount = amount

    def lines(self) -> list[str]:
        """All of it."""
        return [*aligned([HEAD, *self._paths()]), "", *aligned([("", "measured", "budget"), *self._others()])]

    # -- the paths side by side ---------------------------------------------------------------------------------------

    def _paths(self) -> list[Sequence[str]]:
        rounds = self._rounds
        rows: list[Sequence[str]] = []
        for synced, words in (("", ", no syncs"), (" synced", ", synced")):
            started = rounds.piped(f"b long{synced}", "b source", with_start=False)
            whole = rounds.piped(f"b{synced}", "b source", with_start=True)
            ours = rounds.less(f"a{synced}", "a source")
            theirs = rounds.less(f"c{synced}", "c source")
            rows += [
                self._row(f"(a) ours: ring, mux, seal, hash{words}", f"a{synced}", ours, whole, started),
                self._row(f"(b) ffmpeg -c copy, age{words}", f"b{synced}", whole, whole, started),
                self._row("    the same, both started already", f"b long{synced}", started, whole, started),
                self._row(f"(c) picamera2, plain{words}", f"c{synced}", theirs, whole, started),
            ]
        rows += [
            self._row("    source of (a): PyAV, a packet object", "a source", rounds.raw("a source")),
            self._row("    source of (b): ffmpeg's demuxer", "b source", self._ffmpeg_source("b source")),
            self._row("    source of (c): PyAV, Annex B", "c source", rounds.raw("c source")),
        ]
        started = rounds.piped("b live", "b live source", with_start=False)
        ours = rounds.raw("a live")
        rows += [
            self._row("(a) at its own pace, synced", "a live", ours, None, started),
            self._row("(b) at its own pace, synced, started already", "b live", started, None, started),
            self._row("    source of (a) at its own pace", "a live source", rounds.raw("a live source")),
            self._row("    source of (b) at its own pace", "b live source", self._ffmpeg_source("b live source")),
        ]
        return rows

    def _ffmpeg_source(self, name: str) -> list[float] | None:
        seconds, samples = self._rounds.ffmpeg_source(name), self._figures.samples.get(name)
        if seconds is None or samples is None:
            return None
        return [value / sample["frames"] * 1e6 for value, sample in zip(seconds, samples, strict=True)]

    def _row(
        self,
        words: str,
        name: str,
        values: list[float] | None,
        whole: list[float] | None = None,
        started: list[float] | None = None,
    ) -> Sequence[str]:
        if not values:
            return (words, "not measured", *[NONE] * (len(HEAD) - 2))
        spread = Spread.of(values)
        samples = self._figures.samples[name]
        # All paths take the same stream, and live ones take it at its pace.
        speed = Spread.of([s["frames"] / self._described.frame_rate / s["wall_s"] for s in samples])
        rate = NONE if "live" in name else f"{speed.median * self._described.bytes_a_second / MB:.0f}"
        peak, above = NONE, NONE
        if "source" not in name:
            peak = f"{Spread.of([s['peak_bytes'] for s in samples]).median / MB:.0f}"
            if samples[0]["base_bytes"]:
                above = f"{Spread.of([s['peak_bytes'] - s['base_bytes'] for s in samples]).median / MB:.1f}"
        limits = f"{_number(spread.least)}-{_number(spread.most)}"
        ratios = (_ratio(ratio(values, whole)), _ratio(ratio(values, started)))
        return (words, _number(spread.median), limits, *ratios, rate, peak, above)

    # -- everything else ----------------------------------------------------------------------------------------------

    def _others(self) -> list[Sequence[str]]:
        return [*self._limits(), *self._starts(), *self._reading(), *self._recorder()]

    def _limits(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        frame_bytes = self._described.bytes_a_second / self._described.frame_rate
        for name, words in (("limits", ""), ("limits, no AES", ", no AES and SHA instructions")):
            speeds = self._figures.single.get(name)
            if speeds is None:
                rows.append((f"AES-256-GCM alone{words}", self._missing(name), NONE))
                continue
            each = ", ".join(
                f"{label} {speeds[key] / MB:.0f} MB/s ({frame_bytes / speeds[key] * 1e6:.1f} µs a picture)"
                for key, label in (("aes_8k", "8 KiB:"), ("aes_1m", "1 MiB:"), ("sha256", "SHA-256:"))
            )
            rows.append((f"AES-256-GCM alone{words}", each, "the limit"))
        slow = self._figures.single.get("a, no AES")
        source = self._rounds.raw("a source")
        if slow is not None and source:
            value = slow["cpu_s"] / slow["frames"] * 1e6 - Spread.of(source).median
            rows.append(("(a) no syncs, no AES and SHA instructions", f"{_number(value)} µs a picture", NONE))
        return rows

    def _starts(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        for name, words, budget in (
            ("durable 5", "start to durable, 5 s at 4 Mbit/s before it", "≤ 100 ms"),
            ("durable 30", "the same, 30 s before it", "≥ 3 x real time"),
        ):
            runs = self._figures.single.get(name)
            if runs is None:
                rows.append((words, self._missing(name), budget))
                continue
            whole = Spread.of([run["all_ms"] for run in runs])
            first = Spread.of([run["first_ms"] for run in runs])
            kept = Spread.of([run["kept_s"] for run in runs])
            speed = kept.median / whole.median * 1000
            span = f"{whole.least:.0f}-{whole.most:.0f}"
            text = (
                f"all of it {whole.median:.0f} ms ({span}), first sync {first.median:.0f} ms; "
                f"{kept.median:.1f} s were kept, {speed:.0f} x real time"
            )
            rows.append((words, text, budget))
        caught = self._figures.single.get("catching up")
        text = self._missing("catching up") if caught is None else f"{caught:.0f} x real time"
        rows.append((f"catching up after storage stalled for {self._amount.stall_s:.0f} s", text, "≥ 3 x real time"))
        return rows

    def _reading(self) -> list[Sequence[str]]:
        read = self._figures.single.get("evidence")
        budget = "≥ 200 MB/s per core"
        rows: list[Sequence[str]] = []
        for key, words in (
            ("verify_s", "checking evidence (verify)"),
            ("unseal_s", "unsealing alone"),
            ("open_s", "opening evidence (open: unseal, join, write)"),
        ):
            text = self._missing("evidence") if read is None else f"{read['sealed_bytes'] / read[key] / MB:.0f} MB/s"
            rows.append((words, text, budget))
        return rows

    def _recorder(self) -> list[Sequence[str]]:
        lives: list[dict[str, Any]] | None = self._figures.single.get("recorder")
        if lives is None:
            missing = self._missing("recorder")
            return [("the recorder's process: cold start, memory, CPU", missing, NONE)]
        ready = Spread.of([life["ready_s"] for life in lives])
        (lived,) = [life for life in lives if life["live_s"]]
        frames = lived["live_s"] * self._described.frame_rate
        above = (lived["peak_bytes"] - lived["ring_bytes"]) / MB
        cold = f"{ready.median:.2f} s ({ready.least:.2f}-{ready.most:.2f}, {len(lives)} starts)"
        cpu = [
            f"{lived[key] / lived['live_s'] * 100:.1f} % of a core, {lived[key] / frames * 1e6:.0f} µs a picture"
            for key in ("standby_cpu_s", "recording_cpu_s")
        ]
        return [
            ("cold start to standby (bwc-agent run to READY=1)", cold, "≤ 1 s"),
            ("memory of the recorder above the ring's bytes", f"{above:.0f} MB (peak)", "≤ 80 MB"),
            ("CPU of the whole recorder, this clip as camera, standby", cpu[0], NONE),
            ("CPU of the whole recorder, this clip as camera, recording", cpu[1], NONE),
        ]

    def _missing(self, name: str) -> str:
        return f"not measured: {self._figures.missing.get(name, 'left out')}"


NOTES = """\
Each figure is the median of {rounds} rounds over {seconds:g} s of the stream, and of {live_rounds} over {live_s:g} s
at its own pace. In a round all take turns, each run in a process of its own and on one core (at its own pace on all);
ratios are within a round. CPU is user and system time of all threads, without that of the source, which has lines of
its own. MB/s is of encoded media. Memory is VmHWM.

Written to {sealed_on}. Synced (fdatasync) on all sides {ours:.1f} times a second of media, which is (a)'s fragments:
(b) by a reader behind age, of which only the CPU inside fdatasync is counted; (c) its file. On top of that (a) syncs
its journal, {journal:.1f} times a second. Without syncs, (a) still makes new names durable, a few for each segment.

(a) is warmed up, as a recorder that runs all day. Its clock follows the media, so that attestation, journal and
checkpoint happen once a second of media. A segment for each 60 s, with its opening statement and manifest. Two
recipients, ML-KEM-1024 + P-384.

(b) makes a file for each {file_s:g} s too: both programs are started for it. "Started already" is one file of
{seconds:g} s without what the same commands use for 0.2 s. Fragments of 0.2 s, two X25519 recipients. age seals with
ChaCha20-Poly1305 in pieces of 64 KiB; nothing is hashed, signed or journalled. Its memory is that of both.

(c) is picamera2 {picamera2}: CircularOutput2 (5 s) with PyavOutput into fragmented MP4 of 0.2 s. Nothing is sealed.

At the stream's own pace threads and processes wake and sleep all the time, which costs several times what the work
does, on all sides alike. Of (a) the writer's and the journal's thread are counted, and the source's while it hands
packets over.

Start to durable: all that came before the start is on storage, synced."""


def notes(amount: Amount, figures: Figures, sealed_on: str) -> list[str]:
    """How it was measured: what was synced where, and what is counted."""
    checked = figures.single.get("checked", {})
    said = NOTES.format(
        rounds=amount.rounds,
        seconds=amount.seconds,
        live_rounds=amount.live_rounds,
        live_s=amount.live_s,
        sealed_on=sealed_on,
        file_s=amount.file_s,
        ours=checked.get("syncs", 0) / amount.file_s,
        journal=checked.get("more", {}).get("journal_syncs", 0) / amount.file_s,
        picamera2=picamera.VERSION,
    )
    missing = [f"Not measured: {name}: {why}" for name, why in figures.missing.items()]
    return [*said.splitlines(), *missing]


def report(figures: Figures, described: Described, amount: Amount, origin: str, sealed_on: str) -> str:
    """All that is printed."""
    head = [*machine.describe(), f"{origin}: {described.text}"]
    table = Table(figures, described, amount).lines()
    return "\n".join([*head, "", *table, "", *notes(amount, figures, sealed_on)])
