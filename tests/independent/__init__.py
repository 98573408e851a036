"""A second verifier and opener, written from docs/evidence-format.md alone.

It uses the standard library and `cryptography`, and imports nothing of `agent`. `python -m tests.independent FOLDER
[TRUST]` checks a folder. Numbers of sections in the comments are those of the page.
"""
