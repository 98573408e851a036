"""How fast this machine seals, with its AES instructions and without: `sealing` measures, `speeds` asks for both."""

import os
import subprocess
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FRAME = 8192
SECONDS = 1.0
NO_AES = "~0x200000200000000:~0x60000000000"
"""For OPENSSL_ia32cap(3): without AES-NI, PCLMULQDQ, VAES and VPCLMULQDQ; SSSE3 is left, as NEON is on an Arm."""


def measured() -> float:
    """Megabytes a second of processor time, AES-256-GCM in frames as segments have them."""
    cipher, nonce, frame, out = AESGCM(os.urandom(32)), bytes(12), os.urandom(FRAME), bytearray(FRAME + 16)
    sealed, began = 0, time.process_time()
    while (took := time.process_time() - began) < SECONDS:
        for _ in range(64):
            cipher.encrypt_into(nonce, frame, None, out)
        sealed += 64 * FRAME
    return sealed / took / 1e6


def speeds() -> tuple[float, float]:
    """Megabytes a second with AES instructions, and without."""
    found = []
    for environment in ({}, {"OPENSSL_ia32cap": NO_AES}):
        done = subprocess.run(
            [sys.executable, "-m", "tests.hardware.resources.sealing"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        found.append(float(done.stdout))
    return found[0], found[1]


if __name__ == "__main__":
    print(measured())
