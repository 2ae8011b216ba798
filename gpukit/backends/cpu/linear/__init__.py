"""Fully connected layers and matrix products on the CPU."""
