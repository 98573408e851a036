"""Who may stop what, and when: Cedar packs, their schema, the engine that decides, and signed bundles of them.

A decision is a pure function of a request: no clock, no storage, no network lives here. The only file access is the
reading of the rules that ship with this package.
"""
