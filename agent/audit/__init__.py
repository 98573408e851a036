"""The ledger of a shift, from its journal alone: every second in one state, and its decisions replayed."""
