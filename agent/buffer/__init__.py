"""The one buffer: pre-event memory and the writer's queue are the same ring of encoded packets.

Nothing here decodes, writes or decides; threads and locks live in `agent.recorder`.
"""
