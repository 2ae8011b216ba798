"""Activations on the CPU."""
