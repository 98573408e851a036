"""Checks evidence without any private key: what is intact, missing, cut or altered, in plain words."""
