"""Makes speech.mp4 anew: python -m tests.media.data.make_speech (needs espeak-ng).

The text is this project's own, spoken by espeak-ng's formant synthesiser (voice en-us), whose licence, GPL-3, does not
extend to what it speaks. The sample is under this repository's licence.
"""

import io
import subprocess
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

TEXT = "The occupant of this home asks me to stop recording, and no enforcement is expected. I am stopping the camera."
VOICE, WORDS_A_MINUTE = "en-us", 165
RATE, BIT_RATE = 16_000, 24_000
FILE = Path(__file__).with_name("speech.mp4")


def speak(text: str, voice: str = VOICE, words_a_minute: int = WORDS_A_MINUTE) -> bytes:
    """A WAV file."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    return subprocess.run(command, check=True, capture_output=True).stdout


def main() -> None:
    resampler = AudioResampler("fltp", "mono", RATE)
    with av.open(io.BytesIO(speak(TEXT)), "r") as source, av.open(str(FILE), "w") as made:
        track = made.add_stream("aac", rate=RATE, layout="mono")
        track.bit_rate = BIT_RATE
        for frame in [*source.decode(audio=0), None]:
            assert frame is None or isinstance(frame, AudioFrame)
            for part in resampler.resample(frame):
                made.mux(track.encode(part))
        made.mux(track.encode(None))
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
