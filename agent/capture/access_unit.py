"""Encoded pictures of a camera, in Annex B form, into packets of one stream.

The rules, in order:
1. A stream begins at the first IDR picture that comes with its parameter sets; what comes before can't be decoded.
2. Parameter sets are those of that picture. Repeated ones are left out of the packets, as MP4 has them once; other ones
   end the stream, for what follows them is of another.
3. Whether a picture is an IDR picture is read in its NAL units, not taken from the encoder's flag.
4. Ticks are microseconds of the sensor's clock, as the encoder hands them on.
"""

from agent.capture.intake import Encoded
from agent.clock import NS
from agent.errors import SourceError
from agent.media import h264
from agent.media.fmp4 import check_parameters
from agent.media.packet import Kind, Packet, Stream, StreamParameters

TIMESCALE = 1_000_000
IDR = 5
_PARAMETER_SETS = frozenset({h264.SPS, h264.PPS})


def begins(picture: Encoded) -> bool:
    """True if a stream can begin with this picture (rule 1)."""
    kinds = {h264.nal_type(unit) for unit in h264.nal_units(picture.data)}
    return IDR in kinds and kinds >= _PARAMETER_SETS


class PictureStream:
    """Makes packets of pictures.

    Args:
        first: The picture that the stream begins with.
        size: Width and height in pixels.
        fps: Pictures a second, for the nominal duration.
        generation: Of the stream.
        epoch_ns: Monotonic nanoseconds of the encoder's time 0.

    Raises:
        SourceError: Its parameter sets are malformed.
    """

    def __init__(self, first: Encoded, size: tuple[int, int], fps: int, generation: int, epoch_ns: int) -> None:
        units = h264.nal_units(first.data)
        self._sets = {unit for unit in units if h264.nal_type(unit) in _PARAMETER_SETS}
        avcc = h264.avcc_record(list(dict.fromkeys(unit for unit in units if unit in self._sets)))
        parameters = StreamParameters(Kind.VIDEO, "h264", TIMESCALE, avcc, *size)
        check_parameters(parameters)
        self.stream = Stream(parameters, generation, epoch_ns)
        self._duration = TIMESCALE // fps

    def packet(self, picture: Encoded) -> Packet | None:
        """The packet of a picture; None for a buffer without one, which some encoders give out.

        Raises:
            SourceError: It is no Annex B, or comes with other parameter sets.
        """
        slices = []
        key = False
        for unit in h264.nal_units(picture.data):
            kind = h264.nal_type(unit)
            if kind in _PARAMETER_SETS:
                if unit not in self._sets:
                    raise SourceError("the encoder changed its H.264 parameter sets: what follows is another stream")
                continue
            key = key or kind == IDR
            slices.append(unit)
        if not any(1 <= h264.nal_type(unit) <= IDR for unit in slices):
            return None
        ticks = picture.timestamp_us
        stream = self.stream
        return Packet(
            stream,
            h264.length_prefixed(slices),
            ticks,
            self._duration,
            key,
            stream.epoch_ns + ticks * NS // TIMESCALE,
        )
