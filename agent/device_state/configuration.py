"""The last good configuration, beside the device state: signed by the identity key and replaced as a whole.

Nobody who has the card or can edit the configuration file can forge it.
"""

from typing import Annotated

import msgspec

from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.signer import Signer
from agent.storage.interface import ReplacedFile
from agent.trust.records import Name, Record, as_record

TYP = "bwc-configuration+jws"
FILE = "last-configuration.jws"
"""Its name in the state folder."""
MAX_CHARACTERS = 1 << 17
LIMIT = 1 << 20
"""Bytes of the file: the largest size after escaping and base64."""


class _SignedText(Record, frozen=True, forbid_unknown_fields=True):
    agency: Name
    device: Name
    text: Annotated[str, msgspec.Meta(max_length=MAX_CHARACTERS)]


class LastConfiguration:
    """The text of the configuration file with which a recorder last came up.

    Args:
        file: `WholeFile(folder / FILE, LIMIT)`.
        signer: The identity key.
        agency, device: The device that it belongs to.
    """

    def __init__(self, file: ReplacedFile, signer: Signer, agency: str, device: str) -> None:
        self._file = file
        self._signer = signer
        self._agency = agency
        self._device = device

    def load(self) -> str | None:
        """The text; None if none was ever kept.

        Raises:
            StorageError: It can't be read.
            EvidenceError: It was altered, or is another device's.
        """
        data = self._file.load()
        if data is None:
            return None
        try:
            token = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise EvidenceError("expected a signed configuration, got bytes that are not ASCII") from error
        kept = as_record(jws.verify(token, TYP, self._signer.public_key), _SignedText, "kept configuration")
        if (kept.agency, kept.device) != (self._agency, self._device):
            raise EvidenceError(f"expected a configuration of {self._device}, got one of {kept.device}")
        return kept.text

    def save(self, text: str) -> None:
        """Save the text that a recorder came up with; nothing is written if it is saved already.

        Raises:
            StorageError: Storage refuses; the one before may still be there.
            EvidenceError: It is longer than a configuration may be.
        """
        try:
            if self.load() == text:
                return
        except EvidenceError:
            pass  # a damaged file is replaced
        if len(text) > MAX_CHARACTERS:
            raise EvidenceError(f"expected a configuration of at most {MAX_CHARACTERS} characters, got {len(text)}")
        kept = _SignedText(self._agency, self._device, text)
        self._file.save(jws.sign(self._signer, TYP, msgspec.to_builtins(kept)).encode("ascii"))
