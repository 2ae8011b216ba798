"""Launchers of reductions."""
