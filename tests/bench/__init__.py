"""Measurements: our path beside others' on the same stream in the same run. `python -m tests.bench` prints one table.

Every measurement runs in a process of its own (`worker`), so that CPU time and memory are that measurement's alone.
Nothing here passes or fails on a time.
"""
