"""The API over real HTTP, on an engine that does what it is told."""
