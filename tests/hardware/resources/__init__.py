"""What the recorder takes of a processor and of memory, over ten minutes of 1080p30 at 8 Mbit/s."""
