"""Storage of evidence and device state: one interface, and the only code that writes them.

Nothing here interprets the bytes. Paths are relative to the evidence folder, with `/` between parts.
"""
