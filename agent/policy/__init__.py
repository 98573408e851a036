"""Policy decisions: Cedar packs, their schema, the decision engine, and signed policy bundles.

A decision is a pure function of a request and a pack, without clock or network. The only I/O is reading the packs that
ship with this package and, in `agent.policy.store`, keeping bundles on storage.
"""
