"""What runs inside of the emulated machine."""
