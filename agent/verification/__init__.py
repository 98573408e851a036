"""Checking evidence without any private key: what is intact, missing, cut or altered, in plain words.

Reads only; knows the formats of `agent.evidence` and the keys of `agent.keys`, and trusts nothing that it finds.
"""
