"""The limits: how fast AES-256-GCM and SHA-256 go by themselves, in memory, in one thread."""

import hashlib
import os
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SMALL, LARGE = 8 << 10, 1 << 20
TURNS = 5


def _speed(work: Callable[[], object], size: int, budget_s: float) -> float:
    """Bytes a second of CPU time, the best of a few turns."""
    work()
    best = 0.0
    for _ in range(TURNS):
        count, began = 0, time.process_time()
        while (took := time.process_time() - began) < budget_s / TURNS:
            for _ in range(8):
                work()
            count += 8
        best = max(best, count * size / took)
    return best


def speeds(budget_s: float) -> dict[str, float]:
    """Bytes a second: `aes_8k`, `aes_1m`, `sha256`."""
    cipher = AESGCM(os.urandom(32))
    nonce, aad = os.urandom(12), os.urandom(60)
    found = {}
    for name, size in (("aes_8k", SMALL), ("aes_1m", LARGE)):
        plain, sealed = os.urandom(size), bytearray(size + 16)

        def seal(plain: bytes = plain, sealed: bytearray = sealed) -> None:
            cipher.encrypt_into(nonce, plain, aad, sealed)

        found[name] = _speed(seal, size, budget_s)
    block = os.urandom(LARGE)
    found["sha256"] = _speed(lambda: hashlib.sha256(block).digest(), LARGE, budget_s)
    return found
