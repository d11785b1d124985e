"""The command `perp-router`."""
