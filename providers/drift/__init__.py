"""Drift v2: perpetual futures on an AMM with auctions and keepers."""
