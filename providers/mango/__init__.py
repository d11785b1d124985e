"""Mango v4: perpetual futures on an on-chain order book."""
