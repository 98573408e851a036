"""The wearer's hands and senses on GPIO: a thin shell of gpiozero round `agent.core.inputs` and `agent.core.signals`.

Here lives what opens pins, reports their edges and drives lights, tone and vibration. No rule lives here: debounce,
gestures, faults and signal patterns are the core's.
"""
