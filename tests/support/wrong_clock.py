"""Programs that believe that it is another year, and can be told better while they run (Debian's libfaketime)."""

from pathlib import Path

from tests.support.permissions import skip

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")


class WrongClock:
    """A wall clock for programs that are started with `environment`; their monotonic clock is the machine's."""

    def __init__(self, folder: Path) -> None:
        found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])]
        if not found:
            skip("another year is made with Debian's libfaketime: make test-tools")
        self._file = folder / "time"
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, years: int) -> None:
        """From now on the clock is so many years fast."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{years * 365:+d}d\n")
        new.replace(self._file)
