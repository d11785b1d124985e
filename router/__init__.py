"""A smart order router for perpetual futures: each request fills at most once, and every fill is on record."""

__version__ = "0.1.0"
