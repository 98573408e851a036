"""What lies on storage: the journal, segments with their opening statements and manifests, and what a boot takes over.

Formats only. Threads, timers and decisions live in `agent.recorder` and `agent.core`.
"""
