"""Opens a recording: decrypts its sealed segments and joins them into MP4 files, with nothing lost and nothing moved.

The rules, in order:

1. Nothing is written before it is certain that the recording is sealed to the key.
2. Segments are opened in their order, in constant memory. One that can't be opened is reported and skipped.
3. Segments of equal stream parameters are joined into one file (see `joining`); others begin another one. So does a gap
   that no file can hold. Kept apart, each segment is a file.
4. Each film's text is written beside it as WebVTT, under the same name with the suffix `.vtt`.
5. Files get their names at the end, when all are complete; on any failure none is left.

The evidence is not verified here: the caller has done so, or passes `verified=False`.
"""

from collections.abc import Callable
from pathlib import Path

from agent.errors import EvidenceError, StorageError
from agent.export.facts import names, sealed_to
from agent.export.film_names import refuse_existing
from agent.export.opened import Opened
from agent.export.recorded import Place, Recorded, load, segment_path
from agent.export.run import Options, Run
from agent.seal.recipients import RecipientKey

Progress = Callable[[int, int], None]
"""Called with the sealed bytes read so far and the total."""


def open_recording(
    place: Place,
    key: RecipientKey,
    out: Path,
    *,
    verified: bool,
    apart: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Opened:
    """Open a recording.

    Args:
        place: Its location.
        key: A private key that it is sealed to.
        out: The file to be written; of several, `out-1.mp4` and so on, of segments kept apart `out-0001.mp4`.
        verified: True if it was checked and found intact.
        apart: Write each segment to its own file.
        progress: See `Progress`.

    Raises:
        EvidenceError: Nothing of it can be opened, or not with this key.
        StorageError: Evidence can't be read or files can't be written, or there are files of these names already.
    """
    recorded = load(place)
    if not recorded.segments:
        raise EvidenceError(f"expected a recording with segments in it, found none in {place.folder or 'this folder'}")
    _check_key(recorded, key)
    refuse_existing(out)
    run = Run(recorded, key, Options(out, verified=verified, apart=apart), progress)
    try:
        run.open_all()
        return run.publish()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"{out} can't be written: {error.strerror}") from error
    finally:
        run.discard()


def check_key(place: Place, key: RecipientKey) -> None:
    """Check that a recording is sealed to a key, before anything else is done.

    Raises:
        EvidenceError: No segment is sealed to it.
        StorageError: Evidence can't be read.
    """
    _check_key(load(place), key)


def _check_key(recorded: Recorded, key: RecipientKey) -> None:
    named: dict[str, None] = {}
    for segment in recorded.segments:
        if segment.size is None:
            continue
        with recorded.place.tree.open(segment_path(recorded.place, segment.number)) as stream:
            named |= dict.fromkeys(sealed_to(stream))
    if not named:
        raise EvidenceError("expected sealed segments, found none whose header is whole: nothing can be opened")
    if key.recipient.kid not in named:
        raise EvidenceError(
            f"this key, {key.recipient.kid}, is none of those that the recording is sealed to. Give the key of one of "
            f"these: {names(named, recorded.place)}"
        )
