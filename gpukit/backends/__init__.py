"""Primitives and their implementations, one folder a backend."""
