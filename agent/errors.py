"""The errors this package raises: one root, one class for each kind of caller's mistake or bad material.

Every class also has the builtin that fits as a second base, so that a caller may catch either.
"""


class BwcError(Exception):
    """Root of all errors of bwc-agent. Its text says what was expected, what came, and what to do."""


class ConfigError(BwcError, ValueError):
    """A configuration file has a wrong key or value; the text names file and line."""


class SourceError(BwcError, RuntimeError):
    """A camera, microphone or file does not deliver what a source needs."""


class EvidenceError(BwcError, ValueError):
    """Sealed or signed material is malformed, altered or not for this key. The only error a reader raises."""


class KeyFileError(BwcError, ValueError):
    """A key or trust file is missing, malformed, of the wrong kind, or needs a passphrase."""


class ProvisioningError(BwcError, FileExistsError):
    """Provisioning would overwrite something that is already there."""


class NotInstalledError(BwcError, ImportError):
    """A command's modules are not part of this installation, as on a camera."""


class PolicyError(BwcError, ValueError):
    """A policy pack, bundle or request is malformed, or names something that the schema does not know."""


class StorageError(BwcError, OSError):
    """Storage refused an operation: full, read-only, gone or failing. `errno` says which."""

    def __str__(self) -> str:
        """The sentence without the number."""
        return self.strerror or super().__str__()


class ControlError(BwcError, ConnectionError):
    """The recorder's local socket is not there, not ours, or answered with a refusal. `errno` says which."""

    def __str__(self) -> str:
        """The sentence without the number."""
        return self.strerror or super().__str__()


class DeviceError(BwcError, OSError):
    """Something on the board is not there, busy or failing: a GPIO line, a fuel gauge, a clock. `errno` says which."""

    def __str__(self) -> str:
        """The sentence without the number."""
        return self.strerror or super().__str__()
