"""The command `perp-router`."""

from router.cli.main import main

__all__ = ["main"]
