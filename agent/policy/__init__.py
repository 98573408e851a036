"""Who may stop what, and when: Cedar packs, their schema, the engine that decides, and signed bundles of them.

A decision is a pure function of a request: no clock, no network lives here. Files are read for the rules that ship with
this package, and the bundles in force are kept on storage by `agent.policy.store`.
"""
