"""Buttons, switches, lights and the power key, by gpiozero.

Opens pins, reports their edges, drives outputs. It holds no rules: debounce, gestures, faults and signal patterns are
in `agent.core.inputs` and `agent.core.indicator`.
"""
