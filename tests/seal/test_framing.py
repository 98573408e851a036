import pytest

from agent.seal.framing import frame_length_for


@pytest.mark.parametrize(
    ("bit_rate_bps", "frame_length"),
    [
        (0, 4096),
        (64_000, 4096),
        (1_000_000, 4096),
        (2_400_000, 4096),
        (3_000_000, 6144),
        (4_000_000, 8192),
        (10**9, 8192),
    ],
)
def test_frames_grow_with_the_bit_rate_from_4_to_8_kib(bit_rate_bps: int, frame_length: int) -> None:
    assert frame_length_for(bit_rate_bps) == frame_length
