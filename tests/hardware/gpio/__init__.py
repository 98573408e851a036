"""The GPIO suite: real edges of simulated lines, through the kernel, to requests."""
