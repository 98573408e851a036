"""Tests of bwc-agent, laid out as the package is."""
