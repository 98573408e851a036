"""What several tests share: honest small implementations of our own interfaces, and the real clips."""
