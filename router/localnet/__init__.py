"""An embedded Solana cluster with a venue on it: for a first run and for tests."""
