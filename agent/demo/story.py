"""The script of the demonstration: a shift in under a minute, step by step, each step checked."""

import shutil
import tempfile
from pathlib import Path

import av

from agent.demo.docking import RULE, RULE_ID, Dock, choose_broker, free_port
from agent.demo.stage import DemoFailed, RecorderProcess, Transcript, run_json, run_tool
from agent.policy.packs import shipped

PRE_EVENT_S = 3.0
HOLD_S = 1.2
PAUSE_S = 1
POST_ROLL_S = 1
PACK = "us-mo-kcpd"
SETTINGS = f"""\
[device]
simulated_pins = true          # this is a bench

[limits]                        # short ones, so that the story does not take long
pause_s = {PAUSE_S}
post_roll_s = {POST_ROLL_S}

[gestures]                      # holds of a second, for the same reason: the shipped layouts ask for two and three
"double:record" = "start"
"short:record" = "mark"
"hold 1s:record" = "ask_stop"
"triple:record" = "declare:enforcement_mode=none"
"hold 1s:mark" = "ask_privacy"
"short:mark" = "mark"
"triple:mark" = "declare:juvenile+person_class=minor+enforcement_mode=none"
"double:mark" = "declare:encounter_state=concluded+enforcement_mode=none"
"""
BEFORE_KILL_S = 2.0
AFTER_KILL_S = 1.0
SECOND_BOOT = 2
VERSION = 2
REFUSALS = 2
AGENCY = "demo-pd"
DEVICE = "camera-7"
MOST_LOST_S = 0.5
FRAGMENT_HEAD = b"moof\0\0\0\x10mfhd"
"""How each fragment begins where it is in clear (ISO/IEC 14496-12, 8.8.4 and 8.8.5): too long to come about by chance,
as any four bytes do in one of some hundred recordings of this length."""
PIECE = 64
BETWEEN_PIECES = 1 << 15
"""Bytes that are looked for out of an opened film, and how far apart they are taken."""


class Story:
    """One run of the demonstration.

    Args:
        out: A folder that does not exist yet: keys, evidence and opened recordings go there.
        seconds: How long the first recording lasts.
        camera: The source.
        broker: `mosquitto`, `embedded`, or `auto` for the first of them that is there.

    Raises:
        ConfigError: There is no such broker here.
    """

    def __init__(self, out: Path, seconds: float, camera: str, broker: str = "auto") -> None:
        chosen = choose_broker(broker)
        self._out = out
        self._seconds = seconds
        self._camera = camera
        self._say = Transcript()
        self._first_s = 0.0
        self._config = out / "device" / "config.toml"
        self._evidence = out / "device" / "evidence"
        # A socket's path is at most 107 bytes long; the folder of the user's choice may be longer.
        self._run = Path(tempfile.mkdtemp(prefix="bwc-demo-"))
        self._port = free_port()
        self._dock = Dock(
            out, agency=AGENCY, device=DEVICE, broker=chosen, asked_for=broker != "auto", port=self._port, say=self._say
        )

    def run(self) -> None:
        """Run it.

        Raises:
            DemoFailed: A claim does not hold.
        """
        try:
            self._provision()
            log = self._out / "recorder.log"
            with RecorderProcess(self._config, self._run, log) as recorder:
                self._standby(recorder)
                first = self._recording(recorder)
                self._refused(recorder)
                self._granted(recorder)
                second, cut_s = self._kill(recorder)
                self._recovery(recorder, second)
                self._docking(recorder)
                recorder.terminate()
            self._dock.end()
            self._verify()
            self._ledger(first)
            self._open(first, second, cut_s)
            self._where_to_look(first)
        finally:
            self._dock.end()
            shutil.rmtree(self._run, ignore_errors=True)

    def _provision(self) -> None:
        say = self._say
        say.chapter("Provisioning: an agency's keys, and one camera")
        code, printed = run_tool(
            "init", str(self._out), "--agency", AGENCY, "--device", DEVICE, "--camera", self._camera,
            "--broker", f"localhost:{self._port}",
        )  # fmt: skip
        if code:
            raise DemoFailed(printed.strip())
        text = self._config.read_text()
        text = text.replace("pre_event_s = 30.0 ", f"pre_event_s = {PRE_EVENT_S} ")
        text = text.replace('directory = "run" ', f'directory = "{self._run}" ')
        self._config.write_text(text)
        dock = self._out / "device" / "dock.toml"
        dock.write_text(dock.read_text().replace('run = "run" ', f'run = "{self._run}" '))
        for line in printed.splitlines()[:2]:
            say.say("agency", line)
        settings, pack = self._out / "settings.toml", self._out / "agency" / "policy" / f"{AGENCY}.cedar"
        settings.write_text(SETTINGS)
        pack.write_text(shipped(PACK).text + RULE)
        code, printed = run_tool(
            "policy", "sign", str(pack), "--key", f"file:{self._out / 'agency' / 'policy' / 'policy.pem'}",
            "--agency", AGENCY, "--version", str(VERSION), "--settings", str(settings),
            "-o", str(self._evidence / "policy" / f"{VERSION:08d}.jws"),
        )  # fmt: skip
        if code:
            raise DemoFailed(printed.strip())
        say.say(
            "agency", f"policy {AGENCY} signed as version {VERSION}: the rules of {PACK}, one of its own for the dock,"
        )
        say.say("", "the meaning of the buttons, the length of a pause")
        say.say("device", "it holds no key that can open its recordings")

    def _standby(self, recorder: RecorderProcess) -> None:
        say = self._say
        say.chapter("Standby: pictures run through memory, nothing is stored")
        took = recorder.start()
        status = recorder.status()
        say.say(
            "recorder", f"ready {took:.1f} s after its process was started: boot {status['boot']}, {status['mode']}"
        )
        status = recorder.until("its policy is read", lambda status: status["policy_version"] > 0)
        say.claim(f"the newest signed policy is in force: {status['policy']}", status["policy_version"] == VERSION)
        self._dock.start()
        recorder.until("the pre-event buffer is full", lambda status: status["uptime_s"] > PRE_EVENT_S + 1)
        recordings = self._evidence / "recordings"
        say.claim("in standby only the journal is stored", not recordings.exists())

    def _recording(self, recorder: RecorderProcess) -> str:
        say = self._say
        say.chapter("A recording: double press, and a mark")
        recorder.press("record", times=2)
        status = recorder.until("it records", lambda status: bool(status["recording"]))
        recording = str(status["recording"])
        say.say("wearer", "presses the record button twice")
        say.say("recorder", f"started recording {recording}")
        recorder.until("it has recorded for a while", lambda status: status["recording_s"] >= self._seconds)
        recorder.press("mark")
        say.say("wearer", "presses once: a mark")
        return recording

    def _refused(self, recorder: RecorderProcess) -> None:
        """A stop is a decision, not a button."""
        say = self._say
        say.chapter("A stop is a decision, not a button")
        recorder.press("record", hold_s=HOLD_S)
        say.say("wearer", "holds the button: asks to stop, without having declared anything about the situation")
        recorder.until("the request is refused", lambda status: status["refused"] == 1)
        say.claim("refused: the recording continues", bool(recorder.status()["recording"]))
        recorder.press("mark", times=3)
        say.say("wearer", "presses the other button three times: declares a juvenile, and that nothing is enforced")
        recorder.press("mark", hold_s=HOLD_S)
        say.say("wearer", "holds it: asks for a privacy pause")
        status = recorder.until("that is refused too", lambda status: status["refused"] == REFUSALS)
        say.claim(
            f"refused, because no spoken reason was heard; missing: {', '.join(status['missing'])}",
            status["missing"] == ["speak"] and status["mode"] == "recording",
        )

    def _granted(self, recorder: RecorderProcess) -> None:
        """What the policy grants is limited and ends by itself."""
        say = self._say
        recorder.press("mark", times=2)
        say.say("wearer", "presses it twice: declares that the encounter is over, and that nothing is enforced")
        recorder.press("mark", hold_s=HOLD_S)
        recorder.until("a privacy pause is granted", lambda status: status["mode"] == "privacy")
        say.say("policy", f"grants a privacy pause, on the wearer's word alone, for {PAUSE_S} s at most")
        recorder.until("it has ended by itself", lambda status: status["mode"] == "recording")
        say.claim("the pause ended by itself", bool(recorder.status()["recording"]))
        recorder.press("record", hold_s=HOLD_S)
        say.say("wearer", "asks to stop again")
        status = recorder.until("the stop is granted", lambda status: status["mode"] == "post_roll")
        self._first_s = float(status["recording_s"])
        say.say("policy", f"grants it; for another {POST_ROLL_S} s the wearer can still continue")
        recorder.until("it stands by again", lambda status: not status["recording"])
        say.say("recorder", "is in standby")

    def _kill(self, recorder: RecorderProcess) -> tuple[str, float]:
        say = self._say
        say.chapter("Power loss: kill -9 in the middle of a second recording")
        recorder.press("record", times=2)
        status = recorder.until("it records", lambda status: bool(status["recording"]))
        recording = str(status["recording"])
        status = recorder.until("a few seconds are recorded", lambda status: status["recording_s"] >= BEFORE_KILL_S)
        recorder.kill()
        say.say("recorder", f"killed {status['recording_s']:.1f} s into {recording}")
        return recording, float(status["recording_s"])

    def _recovery(self, recorder: RecorderProcess, recording: str) -> None:
        say = self._say
        took = recorder.start()
        status = recorder.until("it goes on recording", lambda status: status["recording"] == recording)
        say.claim(
            f"{took:.1f} s after the restart it continues the same recording, as boot 2",
            status["boot"] == SECOND_BOOT,
        )
        recorder.until("a little more is recorded", lambda status: status["recording_s"] >= AFTER_KILL_S)

    def _docking(self, recorder: RecorderProcess) -> None:
        say, dock = self._say, self._dock
        say.chapter("The shift ends in the dock: status and events over MQTT")
        dock.introduce()
        dock.claim_silence()
        recorder.press("record", times=3)
        recorder.press("record", hold_s=HOLD_S)
        say.say("wearer", "declares that nothing is enforced, and asks to stop")
        status = recorder.until("that is refused", lambda status: status["refused"] == 1)
        say.claim("refused: the recording continues", status["mode"] == "recording")
        dock.put_in(recorder)
        recorder.press("record", hold_s=HOLD_S)
        say.say("wearer", "asks again, in the dock")
        recorder.until("the stop is granted", lambda status: status["mode"] == "post_roll")
        say.say("policy", "grants it: the wearer stopped the recording under the agency's rules; no message can")
        recorder.until("it stands by again", lambda status: not status["recording"])
        dock.show_custodian_view(recorder)
        dock.take_out(recorder)

    def _verify(self) -> None:
        say = self._say
        say.chapter("Verification: a court checks it with the agency's public key alone")
        trust = str(self._out / "agency" / "trust.jws")
        code, printed = run_tool("verify", str(self._evidence), "--trust", trust)
        for line in printed.splitlines():
            say.say("verify", line)
        say.claim("everything stored is intact, and what the power loss cut off is named", code == 0)
        self._tamper(trust)

    def _ledger(self, first: str) -> None:
        """Every second of the shift, and the decisions replayed."""
        say = self._say
        say.chapter("Ledger: every second of the shift, and every request")
        key = str(self._out / "agency" / "oversight" / "oversight.pem")
        _, ledger = run_json("ledger", str(self._evidence), "--key", key, "--replay", "--json")
        for state, us in ledger["states"].items():
            if us:
                say.say("ledger", f"{state:<10} {us / 1e6:6.1f} s")
        total_us = sum(ledger["states"].values())
        say.claim("every microsecond of the shift is in exactly one state", total_us == ledger["shift"]["length_us"])
        requests = [row for row in ledger["requests"] if row["again"]]
        for row in requests:
            by = ", ".join(row["sealed"].get("rules", [])) or "no rule permits it"
            say.say("ledger", f"{row['action']}: {row['outcome']} ({by})")
        outcomes = [row["outcome"] for row in requests if row["recording"] == first]
        say.claim(
            "in the first recording two requests were refused and two granted",
            sorted(outcomes) == ["granted"] * 2 + ["refused"] * 2,
        )
        stops = [(row["outcome"], row["sealed"].get("rules", [])) for row in requests if row["recording"] != first]
        say.claim(
            f"the second recording was stopped in the dock, under the agency's own rule {RULE_ID}",
            [outcome for outcome, _ in stops] == ["refused", "granted"] and stops[-1][1] == [RULE_ID],
        )
        replayed = ledger["replay"]
        say.claim(
            f"replayed through the recorder's core, the journal gives the same {replayed['requests']} decisions",
            not replayed["differences"] and replayed["redecided"] == replayed["requests"] > 0,
        )

    def _tamper(self, trust: str) -> None:
        copy = self._out / "tampered"
        shutil.copytree(self._evidence, copy)
        victim = min(copy.rglob("0001.seg"))
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        code, report = run_json("verify", str(copy), "--trust", trust, "--json")
        self._say.claim("verify finds one flipped bit in a copy, and ends with exit code 1", code == 1)
        del report
        shutil.rmtree(copy)

    def _open(self, first: str, second: str, cut_s: float) -> None:
        say = self._say
        say.chapter("Opening: those who hold a key; the key was never on the camera")
        code, printed = self._open_one(second, "custodian", "second.mp4")
        say.claim("the custodian opens the second recording", code <= 1)
        self._claim_length("second.mp4", PRE_EVENT_S + cut_s - MOST_LOST_S + AFTER_KILL_S)
        code, printed = self._open_one(first, "custodian", "first-custodian.mp4")
        say.claim("of the first recording the custodian can't open what came after a juvenile was declared", code != 0)
        say.say("open", printed.strip().splitlines()[-1] if printed.strip() else "")
        code, _ = self._open_one(first, "oversight", "first.mp4")
        say.claim("oversight opens the whole first recording", code == 0)
        self._claim_length("first.mp4", PRE_EVENT_S + self._first_s)
        sealed = b"".join(path.read_bytes() for path in self._evidence.rglob("*.seg"))
        films = [(self._out / name).read_bytes() for name in ("first.mp4", "second.mp4")]
        pieces = [film[at : at + PIECE] for film in films for at in range(0, len(film) - PIECE, BETWEEN_PIECES)]
        hidden = not any(piece in sealed for piece in [FRAGMENT_HEAD, *pieces])
        say.claim("the camera's storage holds no picture unencrypted", hidden)

    def _open_one(self, recording: str, who: str, name: str) -> tuple[int, str]:
        return run_tool(
            "open",
            str(self._evidence / "recordings" / recording),
            "--key",
            str(self._out / "agency" / who / f"{who}.pem"),
            "--trust",
            str(self._out / "agency" / "trust.jws"),
            "--out",
            str(self._out / name),
        )

    def _claim_length(self, name: str, least_s: float) -> None:
        pictures, length_s = _play(self._out / name)
        self._say.say("open", f"{name}: {pictures} pictures, {length_s:.1f} s")
        self._say.claim(f"at least the {least_s:.1f} s that must have been kept", length_s >= least_s)

    def _where_to_look(self, first: str) -> None:
        say = self._say
        say.chapter("Where to look")
        say.say("video", f"{self._out / 'first.mp4'} and second.mp4 (with a text track: device, time, marks)")
        say.say("evidence", str(self._evidence / "recordings" / first))
        say.say("journal", str(self._evidence / "journal"))
        say.say("log", str(self._out / "recorder.log"))


def _play(path: Path) -> tuple[int, float]:
    """Decode a whole file as a player would: number of pictures, and seconds from the first to after the last."""
    with av.open(str(path)) as container:
        times = []
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(float(frame.pts * frame.time_base))
    step = (times[-1] - times[0]) / (len(times) - 1)
    return len(times), times[-1] - times[0] + step
