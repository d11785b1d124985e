"""Jupiter Perps: perpetual futures against a pool, by requests that the venue's keepers execute."""
