"""Sealed segments, opened by the Encryption SDKs of others. `make test-sdk` runs it, not `make test`."""
