"""Buttons, switches, lights and the power key, by gpiozero.

Opens pins, reports their edges, drives outputs. No rule lives here: debounce, gestures, faults and signal patterns are
in `agent.core.inputs` and `agent.core.indicator`.
"""
