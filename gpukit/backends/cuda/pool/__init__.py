"""Launchers of pooling."""
