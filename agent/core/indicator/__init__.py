"""What the wearer sees, hears and feels: signals, their patterns, and the levels of the outputs at a given time."""
