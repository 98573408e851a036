"""The ledger: what the camera did, every second of a shift, from its journal alone; and the same decisions again.

Reads only. Of signatures it checks the checkpoints that lines need to be believed (`agent.ledger.attesting`); all else
is the business of `agent.verification`.
"""
