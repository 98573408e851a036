"""The pure core: what the recorder decides, what hands and lines ask of it, what the wearer is told.

Nothing here does I/O, starts a thread, reads a clock or draws a random number: events and the time come in, commands,
gestures and levels go out. Cameras, GPIO, files and sockets live in the shell (`agent.recorder`, `agent.gpio`).
"""
