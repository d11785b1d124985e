"""A model of Jupiter Perps: its accounts, its program, and the keepers that fill requests."""
