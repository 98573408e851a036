"""Sealing: the AWS Encryption SDK message format, version 2, suite 0x0478, written as a stream and read back.

Nothing here knows what is inside a message, and nothing here touches storage.
"""
