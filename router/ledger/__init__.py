"""Orders, attempts, fills, positions and idempotency keys, durable before anything is sent."""
