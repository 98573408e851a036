"""Keys and who may use them: signers, signed messages, key files, the agency's trust document, provisioning.

No recorder logic and no evidence formats live here.
"""
