"""Checks whether a device is fit for a shift: configuration, keys, machine, camera, device state.

Each check is a function that returns a finding. Nothing here changes the device, and the recorder does not import it.
"""
