"""The pure core: recording state machine, input recognition, signals to the wearer.

Nothing here does I/O, starts a thread, reads a clock or draws a random number: events and times come in, commands,
gestures and output levels go out. Cameras, GPIO, files and sockets live in the shell (`agent.recorder`, `agent.gpio`).
"""
