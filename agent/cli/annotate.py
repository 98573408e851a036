"""`bwc-agent annotate`: add a signed, sealed classification and note to a recording."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, RecordingOption, choose_recording, login_name, passphrase_of

if TYPE_CHECKING:
    from agent.export.recorded import Place
    from agent.trust.document import TrustDocument


def annotate_command(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A recording's folder, or a folder with recordings below it.", show_default=False
        ),
    ],
    key: Annotated[
        Path,
        typer.Option("--key", metavar="FILE", help="A supervisor's or a custodian's signing key.", show_default=False),
    ],
    classification: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="juvenile, sexual_assault, medical, privileged_counsel, confidential_informant, or a recipient set of "
            "the trust document.",
            show_default=False,
        ),
    ],
    note: Annotated[str, typer.Option(metavar="TEXT", help="A note in your own words.", show_default=False)] = "",
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Your name. By default the login name.", show_default=False),
    ] = None,
    recording: RecordingOption = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Your own copy of the trust document. By default the one beside the evidence.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was stored as JSON.")] = False,
) -> None:
    """Add a signed annotation to a recording.

    No existing file is changed or overwritten. Classification, note and name are sealed to the agency's recipients:
    anybody else learns from the folder only that there is an annotation, by which key, and when. The annotation is
    bound to the recording by the hash of its last manifest, whose signature is checked; check the rest with `verify`
    first.

    Exit codes: 0 stored; 2 refused, and nothing was stored.

    Example: bwc-agent annotate evidence/recordings/3f9a1c20b7d4-0002 --key custodian-signing.pem --classification
    juvenile
    """
    import os

    from agent.audit.annotating import add_annotation
    from agent.clock import SystemClocks
    from agent.evidence.annotation import Content
    from agent.keys.files import load_signer
    from agent.storage.disk import DiskStorage

    place = choose_recording(directory, recording)
    added = add_annotation(
        DiskStorage(place.path),
        "",
        load_signer(f"file:{key}", passphrase_of(key, passphrase_file)),
        _trust(place, trust),
        Content(classification, name or login_name(), note),
        time=SystemClocks().wall(),
        random_bytes=os.urandom,
    )
    path = place.path / added.path
    if as_json:
        output.line(
            json.dumps(
                {
                    "path": str(path),
                    "number": added.number,
                    "recording": added.subject.recording,
                    "manifest": added.subject.manifest,
                    "ended": added.ended,
                }
            )
        )
        return
    output.line(f"annotation {added.number} of {added.subject.recording}: {path}")
    if not added.ended:
        output.line("note: no manifest marks the end of this recording; it may still be running")


def _trust(place: "Place", trust: Path | None) -> "TrustDocument":
    """Not pinned: readers of the annotation check it against their own copy."""
    from agent.errors import KeyFileError
    from agent.evidence import layout
    from agent.keys.files import read_token
    from agent.trust.document import read_unpinned
    from agent.verify.authority import text
    from agent.verify.tree import below

    if trust is not None:
        return read_unpinned(read_token(trust))
    if place.device is None or place.tree.size(below(place.device, layout.TRUST)) is None:
        raise KeyFileError(
            f"expected a trust document beside {place.path}, found none: name your own copy with --trust"
        )
    return read_unpinned(text(place.tree.read(below(place.device, layout.TRUST))))
