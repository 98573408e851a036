"""What lies on storage: the journal, segments with their opening statements and manifests; and how they are checked.

Formats only. Threads, timers and decisions live in `agent.recorder` and `agent.core`.
"""
