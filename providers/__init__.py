"""Venue adapters, one folder each, and what those on Solana share; nothing here knows the router."""
