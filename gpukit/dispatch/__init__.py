"""Primitives with many implementations, one of which is chosen by where the arrays live."""
