"""Raw edges of input lines into debounced gestures, triggers and line faults. Pure and clocked from outside."""
