"""How other processes reach the recorder: local socket, inbox, status file."""
