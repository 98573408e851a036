"""The frame length of a segment: long enough to cost little time, short enough to waste little storage.

Each fragment (0.2 s of media) is padded to whole frames, half a frame on average, and each frame adds 32 bytes. Long
frames waste storage at low bit rates; short ones cost time at high ones. Measured on 2026-11-23 on an x86-64 server
(AMD EPYC, 2 cores, AES instructions) with Python 3.11 by `python -m tests.bench.frame_size`: the overhead in per cent
of the media's bytes, and the time to seal a packet in microseconds (30 pictures a second).

| frame  | 1 Mbit/s       | 2 Mbit/s       | 4 Mbit/s       | 8 Mbit/s       |
| ------ | -------------- | -------------- | -------------- | -------------- |
| 1 KiB  |  5.2 %, 5.5 µs |  4.2 %, 10 µs  | 3.7 %, 20.5 µs | 3.4 %, 40.9 µs |
| 2 KiB  |  5.4 %, 3.2 µs |  3.6 %, 6.1 µs | 2.6 %, 12.2 µs | 2.1 %, 24.1 µs |
| 4 KiB  |  9.3 %, 2.2 µs |  4.6 %, 4.0 µs | 2.8 %, 7.9 µs  | 1.8 %, 15.3 µs |
| 6 KiB  | 12.1 %, 1.8 µs |  6.1 %, 3.4 µs | 3.5 %, 6.6 µs  | 2.2 %, 13.0 µs |
| 8 KiB  | 16.2 %, 1.6 µs |  8.9 %, 2.9 µs | 4.2 %, 5.6 µs  | 2.4 %, 11.2 µs |
| 16 KiB | 30.4 %, 1.2 µs | 16.0 %, 2.3 µs | 8.7 %, 4.1 µs  | 4.0 %, 7.9 µs  |

Below 4 KiB every halving costs at least half as much time again and saves little storage; above 8 KiB every doubling
nearly doubles the overhead and saves little time.
"""

KIB = 1024
MIN_FRAME_LENGTH = 4 * KIB
MAX_FRAME_LENGTH = 8 * KIB
_BIT_RATE_PER_KIB = 500_000


def frame_length_for(bit_rate_bps: int) -> int:
    """Bytes of plaintext in a frame for a segment of this bit rate: 1 KiB for each 0.5 Mbit/s, from 4 to 8 KiB.

    That keeps the overhead of padding and frames below 5 per cent of the media from 2 Mbit/s on.
    """
    return min(max(bit_rate_bps // _BIT_RATE_PER_KIB * KIB, MIN_FRAME_LENGTH), MAX_FRAME_LENGTH)
