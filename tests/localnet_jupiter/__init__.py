"""Tests of the model of Jupiter Perps and of its keeper."""
