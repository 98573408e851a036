"""Keys: signers, signed JSON (JWS), public keys (JWK), key files.

No recorder logic and no evidence formats live here.
"""
