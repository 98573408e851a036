"""The two SDKs behind one interface: given a message and an RSA key file, what do they give back?"""

import json
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol

from tests.support.esdk import Given, open_frames, open_whole, raw_rsa_provider

HERE = Path(__file__).parent
Mode = Literal["whole", "frames"]


class Sdk(Protocol):
    """An Encryption SDK with its raw RSA keyring.

    Attributes:
        name: The language.
        title: The package and its version.
    """

    name: str
    title: str

    def open(self, message: bytes, key: Path, kid: str, mode: Mode) -> Given:
        """Open a message in one call, or frame by frame as the format's page says for what was cut."""
        ...


class PythonSdk:
    name = "Python"

    def __init__(self) -> None:
        self.title = f"aws-encryption-sdk {version('aws-encryption-sdk')}"
        self._provider = cache(lambda key, kid: raw_rsa_provider(key.read_bytes(), kid))

    def open(self, message: bytes, key: Path, kid: str, mode: Mode) -> Given:
        provider = self._provider(key, kid)
        return open_whole(message, provider) if mode == "whole" else open_frames(message, provider)


class JavaScriptSdk:
    """A running `open.js`, which answers one request after the other."""

    name = "JavaScript"

    def __init__(self, folder: Path) -> None:
        package = HERE / "node_modules" / "@aws-crypto" / "client-node" / "package.json"
        self.title = f"@aws-crypto/client-node {json.loads(package.read_text('utf-8'))['version']}"
        self._message, self._plaintext = folder / "message", folder / "plaintext"
        self._process = subprocess.Popen(
            ["node", HERE / "open.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def open(self, message: bytes, key: Path, kid: str, mode: Mode | Literal["piped"]) -> Given:
        """As `Sdk.open`; `piped` streams the message as a file is read, without waiting for each frame."""
        self._message.write_bytes(message)
        self._plaintext.unlink(missing_ok=True)
        request = {
            "mode": mode,
            "message": str(self._message),
            "plaintext": str(self._plaintext),
            "key": str(key),
            "name": kid,
        }
        requests, answers = self._process.stdin, self._process.stdout
        assert requests
        assert answers
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        answer = answers.readline()
        assert answer, f"open.js ended with exit code {self._process.wait()}"
        said = json.loads(answer)
        return Given(self._plaintext.read_bytes(), said["error"] or "", said["context"] or {})

    def close(self) -> None:
        self._process.communicate(timeout=10)
