"""What every venue adapter shares: protocol, error tree, quantities, clock."""
