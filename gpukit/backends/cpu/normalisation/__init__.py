"""Batch normalisation and local response normalisation on the CPU."""
