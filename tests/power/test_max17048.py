"""The fuel gauge at the level of its registers: every number by the datasheet, every wrong chip refused."""

import pytest

from agent.errors import DeviceError
from agent.power.max17048 import CONFIG, CRATE, HIBRT, SOC, VCELL, VERSION, Max17048
from agent.power.readings import Battery


class Registers:
    """A MAX17048 after power-on, in registers."""

    def __init__(self) -> None:
        self.name = "registers"
        self.words = {VCELL: 0xC000, SOC: 0x4980, VERSION: 0x0012, HIBRT: 0x8030, CONFIG: 0x971C, CRATE: 0x0000}
        self.written: list[tuple[int, int]] = []
        self.gone = False

    def read_word(self, register: int) -> int:
        if self.gone:
            raise DeviceError(121, "Remote I/O error")
        return self.words[register]

    def write_word(self, register: int, value: int) -> None:
        self.written.append((register, value))
        self.words[register] = value


@pytest.fixture
def registers() -> Registers:
    return Registers()


def test_cell_is_read_in_volts_and_per_cent(registers: Registers) -> None:
    # 0xC000 x 78.125 µV = 3.84 V; 0x4980 / 256 = 73.5 %.
    assert Max17048(registers).read() == Battery(73.5, 3.84, None, 0.0)


@pytest.mark.parametrize(
    ("crate", "rate", "charging"),
    [(0x0000, 0.0, None), (0x0004, 0.8, None), (0x0030, 10.0, True), (0xFFD0, -10.0, False), (0xFFFF, -0.2, None)],
)
def test_rate_is_signed_and_says_whether_charge_goes_in(
    registers: Registers, crate: int, rate: float, charging: bool | None
) -> None:
    registers.words[CRATE] = crate
    battery = Max17048(registers).read()
    assert (battery.percent_an_hour, battery.charging) == (rate, charging)


def test_full_cell_is_full_and_no_more(registers: Registers) -> None:
    registers.words[SOC] = 0x6640  # 102.25 %
    assert Max17048(registers).read().percent == 100


def test_chip_is_kept_from_hibernating_once(registers: Registers) -> None:
    gauge = Max17048(registers)
    gauge.read()
    gauge.read()
    assert registers.written == [(HIBRT, 0x0000)]


def test_chip_that_sleeps_is_woken(registers: Registers) -> None:
    registers.words[CONFIG] = 0x979C
    Max17048(registers).read()
    assert (CONFIG, 0x971C) in registers.written


@pytest.mark.parametrize("version", [0x0000, 0xFFFF, 0x0002, 0x0120])
def test_other_chip_at_the_same_address_is_refused(registers: Registers, version: int) -> None:
    registers.words[VERSION] = version
    with pytest.raises(DeviceError, match="another chip"):
        Max17048(registers).read()
    assert not registers.written


@pytest.mark.parametrize("vcell", [0x0000, 0x1000, 0xFFFF])
def test_voltage_that_no_cell_has_is_refused(registers: Registers, vcell: int) -> None:
    registers.words[VCELL] = vcell
    with pytest.raises(DeviceError, match="expected a cell"):
        Max17048(registers).read()


def test_chip_that_went_away_is_recognised_anew(registers: Registers) -> None:
    gauge = Max17048(registers)
    gauge.read()
    registers.gone = True
    with pytest.raises(DeviceError):
        gauge.read()
    registers.gone = False
    registers.words[HIBRT] = 0x8030  # it was reset
    gauge.read()
    assert registers.written == [(HIBRT, 0), (HIBRT, 0)]
