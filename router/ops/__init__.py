"""What an operator sees: JSON logs without secrets, and Prometheus metrics."""
