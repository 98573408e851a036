"""kill -9 at random moments, each restart the next victim. `make test-kill` runs 200, `make test` a few."""
