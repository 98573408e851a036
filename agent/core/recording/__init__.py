"""The recording's state machine: an event in, the next state and commands out. No I/O, no clock, no thread."""
