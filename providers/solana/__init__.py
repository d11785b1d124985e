"""What Solana venues share: nodes, account layouts, transactions, proofs, the order lock, the signer."""
