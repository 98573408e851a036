"""gpiozero's pins on a GPIO character device, by lgpio.

gpiozero's own lgpio factory never closes a chip, knows only the lines of a Raspberry Pi's header, and reports a line
that something else holds as "GPIO busy". This one resolves the chip's own names of its lines, names the holder of a
busy line, and reopens the chip when its device disappeared and came back.
"""

import contextlib
import errno
import fcntl
import os
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from agent.clock import NS
from agent.errors import DeviceError
from agent.gpio.edges import EdgeListeners
from agent.gpio.lines import ChipInfo, LineInfo, choose_chip, offset_of

DEVICES = Path("/dev")
RETRY_S = 0.5
"""A missing chip is not looked for again for so long, as each of its lines would do."""
WAKE_AFTER_S = 0.02
"""So long after the release of a line lgpio's thread has noticed it, and sleeps if it is going to."""
_GET_CHIP_INFO = 0x8044B401
"""`GPIO_GET_CHIPINFO_IOCTL`, which fills a `struct gpiochip_info`: name, label, lines."""
_CHIP_INFO = struct.Struct("32s32sI")
_USED = 1
"""Of a line's flags: it is busy (`GPIO_V2_LINE_FLAG_USED`)."""


def _load_lgpio() -> Any:
    """Import lgpio, which then makes a named pipe in the working directory: that may not be writable."""
    before = Path.cwd()
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None  # systemd.exec(5)
    with tempfile.TemporaryDirectory(prefix="lgpio-", dir=runtime) as scratch:
        os.chdir(scratch)
        try:
            import lgpio
        finally:
            os.chdir(before)
    # Failures raise an error instead of returning a negative number.
    lgpio.exceptions = True
    return lgpio


lgpio = _load_lgpio()

from gpiozero.pins import PinInfo  # noqa: E402 - gpiozero imports lgpio by itself
from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin  # noqa: E402
from gpiozero.pins.local import get_pi_revision  # noqa: E402
from gpiozero.pins.pi import PiBoardInfo  # noqa: E402


def chips() -> list[ChipInfo]:
    """The chips of this machine that can be opened, in the order of their numbers."""
    found = []
    numbers = sorted(int(path.name.removeprefix("gpiochip")) for path in DEVICES.glob("gpiochip[0-9]*"))
    for number in numbers:
        # Not by lgpio: closing a chip, it stops the whole process for 0.1 s, and this opens every chip.
        with contextlib.suppress(OSError), (DEVICES / f"gpiochip{number}").open("rb", buffering=0) as device:
            info = bytearray(_CHIP_INFO.size)
            fcntl.ioctl(device, _GET_CHIP_INFO, info)
            name, label, lines = _CHIP_INFO.unpack(info)
            found.append(ChipInfo(number, _text(name), _text(label), lines))
    return found


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode(errors="replace")


def _wake_edge_thread() -> None:
    """Wake lgpio's thread for edges, which only adding a line and closing a chip do."""
    for _ in range(2):  # the first is lost if it is just about to sleep
        time.sleep(WAKE_AFTER_S)
        for path in DEVICES.glob("gpiochip[0-9]*"):
            with contextlib.suppress(lgpio.error):
                lgpio.gpiochip_close(lgpio.gpiochip_open(int(path.name.removeprefix("gpiochip"))))
                break


_WAITING = EdgeListeners(_wake_edge_thread)


@dataclass(frozen=True, slots=True)
class _Board:
    """A board as gpiozero sees it: finds the pins of a name."""

    pins: Mapping[int, Any]
    lines: Sequence[LineInfo]
    header: Any

    def find_pin(self, name: int | str) -> Iterator[tuple[str, Any]]:
        """The one line of a number or a name, in the form of gpiozero's boards."""
        if self.header is not None and isinstance(name, str):
            for _, info in self.header.find_pin(name):
                if info.name.startswith("GPIO"):  # a place on the header, such as BOARD11
                    name = int(info.name.removeprefix("GPIO"))
                    break
        offset = offset_of(self.lines, name)
        if offset is not None:
            yield "chip", self.pins[offset]


def _pulls(header: Any) -> dict[int, str]:
    """The pull resistors on the board, by GPIO number: these lines can't be pulled the other way."""
    if header is None:
        return {}
    every = [info for place in header.headers.values() for info in place.pins.values()]
    return {int(info.name.removeprefix("GPIO")): info.pull for info in every if info.name.startswith("GPIO")}


def _pin_infos(lines: Sequence[LineInfo], header: Any) -> dict[int, Any]:
    """Gpiozero's description of each line, by offset."""
    pulls = _pulls(header)
    return {
        line.offset: PinInfo(
            number=line.offset,
            name=f"GPIO{line.offset}",
            names=frozenset({line.offset, line.name or f"GPIO{line.offset}"}),
            pull=pulls.get(line.offset, ""),
            row=line.offset + 1,
            col=1,
            interfaces=frozenset({"gpio"}),
        )
        for line in lines
    }


def _line(handle: int | None, offset: int) -> LineInfo:
    _, _, flags, name, consumer = lgpio.gpio_get_line_info(handle, offset)
    return LineInfo(offset, name, consumer, bool(flags & _USED))


class ChipPin(LGPIOPin):  # type: ignore[misc]
    """A line of a `ChipFactory`. It belongs to one opening of the chip; closing it releases the line."""

    _callback: Any
    _when_changed: Any

    def __init__(self, factory: "ChipFactory", info: Any) -> None:
        self._opening = factory.opening
        try:
            super().__init__(factory, info)
        except lgpio.error as error:
            raise factory.explained(info.number, error) from error

    def close(self) -> None:
        """Release the line. Never raises: a line whose chip is gone is released already."""
        with contextlib.suppress(lgpio.error):
            if self._callback is not None:
                self._callback.cancel()
                self._callback = None
        if self._opening == self.factory.opening:
            self.factory.pins.pop(self.info, None)
            with contextlib.suppress(lgpio.error):
                lgpio.gpio_free(self.factory.handle, self._number)
        _WAITING.drop(self)

    def _get_state(self) -> Any:
        if self._opening != self.factory.opening:
            raise DeviceError(errno.ENODEV, "its chip was reopened")
        return super()._get_state()

    def _set_state(self, value: Any) -> None:
        if self._opening != self.factory.opening:
            raise DeviceError(errno.ENODEV, "its chip was reopened")
        super()._set_state(value)

    def _call_when_changed(self, chip: int, gpio: int, level: int, ticks: int) -> None:  # noqa: ARG002 - lgpio's
        # Not gpiozero's, which raises if the handler was removed while an edge was on its way. An exception would end
        # lgpio's one thread for edges, and every button would be dead.
        handler = self._when_changed
        method = None if handler is None else handler()
        if method is not None:
            method(ticks / NS, level)

    def _enable_event_detect(self) -> None:
        super()._enable_event_detect()
        _WAITING.add(self)

    def _disable_event_detect(self) -> None:
        with contextlib.suppress(lgpio.error):  # as in `close`
            if self._opening == self.factory.opening:
                super()._disable_event_detect()
            elif self._callback is not None:  # its line, if it has come back, may have another holder by now
                self._callback.cancel()
                self._callback = None
        _WAITING.drop(self)


class ChipFactory(LGPIOFactory):  # type: ignore[misc]
    """gpiozero's pins on one chip.

    A missing chip is no error here: it is looked for again whenever a pin is requested.

    Args:
        chip: Its number, name, or label such as `pinctrl-rp1`; None for the one with the header's lines.

    Attributes:
        opening: Counts how often the chip was opened; a pin of an earlier opening is dead.
    """

    def __init__(self, chip: int | str | None = None) -> None:
        self._wanted = chip
        self._board: _Board | None = None
        self._missing: DeviceError | None = None
        self._missed_s = 0.0
        self.opening = 0
        # Not LGPIOFactory's, which opens a chip, or fails; nor LocalPiFactory's, which shares pins among factories.
        super(LGPIOFactory, self).__init__()
        self.pins: dict[Any, ChipPin] = {}
        self._reservations: Any = defaultdict(list)
        self._res_lock = Lock()
        self._handle: int | None = None
        self._chip: int | None = None
        self.pin_class = ChipPin

    @property
    def handle(self) -> int | None:
        """Lgpio's handle of the open chip; None if it is not open."""
        return self._handle

    def pin(self, name: int | str) -> Any:
        """The pin; the chip is reopened if it disappeared.

        Raises:
            DeviceError: The chip is missing, or the line is busy.
            gpiozero.PinInvalidPin: The chip has no such line.
        """
        self.ensure()
        return super().pin(name)

    def reserve_pins(self, requester: Any, *names: int | str) -> None:
        """As gpiozero's, with the chip open, which is needed to resolve names."""
        self.ensure()
        super().reserve_pins(requester, *names)

    def release_all(self, reserver: Any) -> None:
        """As gpiozero's; with the chip gone nothing is left to release."""
        if self._board is not None:
            super().release_all(reserver)

    def ensure(self) -> None:
        """Open the chip if it is not open or has disappeared.

        Raises:
            DeviceError: It is missing.
        """
        if self._handle is not None:
            with contextlib.suppress(lgpio.error):
                lgpio.gpio_get_chip_info(self._handle)
                return
            self._forget()
        if self._missing is not None and time.monotonic() - self._missed_s < RETRY_S:
            raise self._missing
        try:
            found = choose_chip(chips(), self._wanted)
        except DeviceError as error:
            self._missing, self._missed_s = error, time.monotonic()
            raise
        self._missing = None
        try:
            handle = lgpio.gpiochip_open(found.number)
            lines = [_line(handle, offset) for offset in range(found.lines)]
        except lgpio.error as error:
            raise DeviceError(errno.ENODEV, f"{found.name}: {error}") from error
        try:
            header = PiBoardInfo.from_revision(get_pi_revision())
        except Exception:  # noqa: BLE001 - no Raspberry Pi, or one unknown to gpiozero: the header has no names
            header = None
        self._board = _Board(_pin_infos(lines, header), lines, header)
        self._handle = handle
        self._chip = found.number
        self.opening += 1

    def close(self) -> None:
        """Release all lines and the chip."""
        for pin in list(self.pins.values()):
            pin.close()
        self._forget()

    def explained(self, offset: int, error: Exception) -> DeviceError:
        """Why a line could not be opened, with the name of its holder if it is busy."""
        with contextlib.suppress(lgpio.error):
            line = _line(self._handle, offset)
            if line.used:
                return DeviceError(errno.EBUSY, f"line {offset} is busy: held by {line.consumer or 'the kernel'!r}")
        return DeviceError(errno.EIO, f"line {offset}: {error}")

    def _forget(self) -> None:
        handle, self._handle = self._handle, None
        self.opening += 1
        pins = list(self.pins.values())
        self.pins.clear()
        self._reservations.clear()
        self._board = None
        if handle is not None:
            with contextlib.suppress(lgpio.error):
                lgpio.gpiochip_close(handle)
        _WAITING.drop(*pins)

    def _get_board_info(self) -> Any:
        return self._board or _Board({}, [], None)
