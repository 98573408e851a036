"""The errors this package raises: one root, and one class for each kind of mistake or bad input.

Every class also derives from the matching builtin exception, so that a caller may catch either.
"""


class BwcError(Exception):
    """Root of all errors of bwc-agent. The text says what was expected, what was found, and what to do."""


class ConfigError(BwcError, ValueError):
    """A configuration file has a wrong key or value; the text names file and line."""


class SourceError(BwcError, RuntimeError):
    """A camera, microphone or file does not deliver what a source must provide."""


class EvidenceError(BwcError, ValueError):
    """Sealed or signed material is malformed, altered or for another key. Readers raise no other error for it."""


class KeyFileError(BwcError, ValueError):
    """A key or trust file is missing, malformed, of the wrong kind, or needs a passphrase."""


class ProvisioningError(BwcError, FileExistsError):
    """Provisioning would overwrite an existing file."""


class NotInstalledError(BwcError, ImportError):
    """A command's modules are not part of this installation, as on a camera."""


class PolicyError(BwcError, ValueError):
    """A policy pack, bundle or request is malformed, or uses a name that the schema does not define."""


class StorageError(BwcError, OSError):
    """A storage operation failed: the storage is full, read-only, removed or faulty. `errno` says which."""

    def __str__(self) -> str:
        """The message without the error number."""
        return self.strerror or super().__str__()


class ControlError(BwcError, ConnectionError):
    """The recorder's local socket is missing, belongs to another user, or refused the request. `errno` says which."""

    def __str__(self) -> str:
        """The message without the error number."""
        return self.strerror or super().__str__()


class DeviceError(BwcError, OSError):
    """A GPIO line, fuel gauge or clock on the board is missing, busy or faulty. `errno` says which."""

    def __str__(self) -> str:
        """The message without the error number."""
        return self.strerror or super().__str__()
