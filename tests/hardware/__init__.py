"""Suites on the real stack: camera, GPIO, systemd, power cuts, arm64, resources. `make test-hardware` runs them."""
