"""Where evidence is kept: one interface, and the only code that writes evidence.

Nothing here knows what the bytes mean. Callers pass paths relative to the evidence folder, with `/` between parts.
"""
