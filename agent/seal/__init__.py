"""Sealing: the AWS Encryption SDK message format, version 2, suite 0x0478, written as a stream and read back.

This package neither interprets the contents of messages nor accesses storage.
"""
