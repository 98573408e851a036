"""`python -m agent` is `bwc-agent`."""

from agent.cli import main

main()
