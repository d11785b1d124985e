"""HTTP: what callers send and get. No decision about money is made here."""
