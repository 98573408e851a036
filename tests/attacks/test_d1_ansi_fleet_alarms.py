"""Terminal commands in what a device says reach neither a custodian's terminal nor the station's log."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.encoding.strict_json import b64
from tests.support.running import command
from tests.support.stations import Rig, event, status

EVIL = "\x1b[2J\x1b]0;pwned\x07\x1b[31mno alarms\x1b[8m\u202e\u2066\u200b\x9b31m\x7f\n2026-01-01  ALARM forged"


def test_terminal_commands_of_a_device_reach_no_terminal_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch)
    header = b64(json.dumps({"alg": "ES256", "typ": "bwc-device+jws", "kid": "k", EVIL: 1}).encode())
    token = f"{header}.{b64(b'{}')}.{b64(b'x' * 64)}"
    own = {"line": 1, "jws": "a.b.c", "device_certificate": token, "boot_certificate": token}
    rig.send("status", status(checkpoint=own))
    rig.send("status", status(device="cam-2", policy={"name": EVIL, "version": 1, "digest": "0" * 64}), "cam-2")
    entry: dict[str, Any] = {"what": EVIL, EVIL[:60]: EVIL}
    rig.send("event", event(1, "cam-3", **entry), "cam-3")
    rig.send("event", EVIL.encode(), "cam-4")
    assert set(rig.alarms()) == {"checkpoint_refused"}
    rig.store.close()
    config = tmp_path / "station.toml"
    config.write_text(
        '[station]\nname = "station-1"\nagency = "city"\ntrust = "t"\nroot = "r"\nkey = "file:k"\n'
        'database = "station.sqlite"\n[broker]\nhost = "h"\nca = "c"\ncertificate = "c"\nkey = "k"\n'
    )
    shown = {}
    for name, arguments in {
        "alarms": ("fleet", "alarms"),
        "alarms as JSON": ("fleet", "alarms", "--json"),
        "all alarms": ("fleet", "alarms", "--all"),
        "watch": ("fleet", "watch", "--once"),
        "watch as JSON": ("fleet", "watch", "--json"),
        "events": ("fleet", "events"),
        "events as JSON": ("fleet", "events", "--json"),
    }.items():
        ran = command(*arguments, "--config", str(config))
        shown[name] = ran.stdout + ran.stderr
        assert "Traceback" not in shown[name]
    for name, text in {**shown, "said by the station": "\n".join(rig.said)}.items():
        assert text, name
        left = {char for char in text if char != "\n" and not char.isprintable()}
        assert not left, (name, left)
        assert not any(line.startswith("2026-01-01  ALARM forged") for line in text.splitlines()), name
    assert "\\x1b[2J" in shown["alarms"]
    assert "\\u001b[2J" in shown["events as JSON"]
    (told,) = json.loads(shown["events as JSON"])
    assert told["data"]["entry"]["what"] == EVIL, "JSON has it exactly"
