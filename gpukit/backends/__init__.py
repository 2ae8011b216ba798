"""Implementations of primitives, one folder a backend."""
