"""Interface descriptions of the venues' programs, as package data: names, codes and layouts only."""
