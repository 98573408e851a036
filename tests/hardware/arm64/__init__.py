"""The package on 64-bit Arm, emulated: Debian's own interpreter, and exactly the wheels that the lock file names."""
