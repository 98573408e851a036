"""Small evidence folders with their keys, and what the tools say of them: the behaviour that a change must not change.

- `agency/`: the keys of an invented agency and its one camera. They protect nothing.
- `evidence/NAME/`: a device's folder each. `stories.py` makes those of honest cameras, `attacks.py` what somebody makes
  of them.
- `older/NAME/`: folders in earlier versions of the format, which must go on being read.
- `expected/NAME.json`: what `verify`, `ledger` (replay included) and `open` print for it; `expected/help.txt`: the help
  of every command.

`python -m tests.corpus make` makes all of it anew: the stories are the same each time, keys of boots and signatures are
not. `python -m tests.corpus expect` leaves the folders as they are and writes down what the tools say of them now: look
at the difference before it is committed.
"""
