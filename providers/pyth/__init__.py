"""Pyth's prices from a Hermes server: no venue, but what a venue's own oracle is held against (docs/limits.md)."""
