"""Shift changes of 1,500 devices, and what one dock service takes. Minutes: `make test-fleet`, not `make test`."""
