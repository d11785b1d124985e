"""What becomes of an order: the chain of providers, failover by proof, settlement, recovery, lots, prices."""
