"""Encodings that all formats share: strict JSON, base64url, SHA-256."""
