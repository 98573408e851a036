"""The ledger: what the camera did, every second of a shift, from its journal alone; and the same decisions again.

Reads only. Checks the chain, never a signature: that is the business of `agent.verification`.
"""
