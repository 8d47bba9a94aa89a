"""A stand-in whose revision the graph names."""

REVISION = 1
