"""Power cuts: the recorder on an ext4 whose every write is logged, and what is left of it when the power goes."""
