"""The command, its settings, its logs."""
