"""Launchers of fully connected layers and matrix products."""
