"""The journal of a device: its entries, the format of its lines, the one reader, and what lines establish at a start.

Reads and writes lines; decides nothing. May not import the recorder, verification or export.
"""
