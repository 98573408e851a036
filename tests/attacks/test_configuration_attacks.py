"""A configuration file of somebody who wants the camera to record nothing: it is read in bounded time, and replaced."""

import time
from pathlib import Path

import pytest

from agent.config import recorder as configuration
from agent.errors import ConfigError
from agent.recorder.configuration import Origin, built_in, from_file, last_good, store
from tests.support.running import provision

FILLS = configuration.MAX_BYTES - 100
MOST_S = 20
"""Seconds for all that reads the file; quadratic readers took minutes."""
HOSTILE = {
    "one_dotted_key": "a" + ".a" * (FILLS // 2) + "=1\n",
    "dotted_key_of_quoted_names": '"\\""' + '."\\""' * (FILLS // 5) + "=1\n",
    "dotted_key_with_blanks": "a" + " . a" * (FILLS // 4) + "=1\n",
    "dotted_header": "[a" + ".a" * (FILLS // 2) + "]\n",
    "headers": "[a]\n" * (FILLS // 4),
    "open_headers": "[" * FILLS,
    "arrays_of_tables": "[[a]]\n" * (FILLS // 6),
    "line_feeds": "\n" * FILLS + "[a\n=",
    "blanks": " " * FILLS + "[a\n=",
    "one_long_name": "a" * FILLS,
    "quotes": "'\"" * (FILLS // 2),
    "dots": "." * FILLS,
    "a_huge_number": "a = " + "9" * (FILLS - 10),
    "no_header_at_all": "expected = \n",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_configuration_is_replaced_in_bounded_time(tmp_path: Path, attack: str) -> None:
    file = provision(tmp_path / "pilot")
    kept = file.read_text()
    store(file).save(kept)
    for text in (HOSTILE[attack], f"{kept}{HOSTILE[attack][: FILLS - len(kept)]}\n=\n"):
        file.write_text(text)
        began = time.monotonic()
        with pytest.raises(ConfigError):
            from_file(file)
        found = last_good(file)
        assert found is not None
        assert (found.origin, found.text) == (Origin.LAST_GOOD, kept)
        assert built_in(file).origin is Origin.BUILT_IN
        assert time.monotonic() - began < MOST_S


def test_names_of_a_configuration_may_still_be_dotted_and_values_hold_dots() -> None:
    text = '# 1.2.3.4.5.6.7.8.9\na.b."c.d".e = "/dev/i2c.1"\n'
    assert configuration.parse_toml(text) == {"a": {"b": {"c.d": {"e": "/dev/i2c.1"}}}}
