"""Formats of what lies on the card: layout, segments, opening statements, manifests, annotations.

Formats only. Threads, timers and decisions live in `agent.recorder` and `agent.core`.
"""
