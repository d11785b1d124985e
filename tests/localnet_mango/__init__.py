"""Tests of the Mango model."""
