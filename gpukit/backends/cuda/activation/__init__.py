"""Launchers of activations."""
