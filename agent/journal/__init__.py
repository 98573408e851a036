"""The journal of a device: its entries, the format of its lines, and what they establish.

Reads and writes lines; decides nothing. May not import the recorder, verification or export.
"""
