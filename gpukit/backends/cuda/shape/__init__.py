"""Launchers of what moves elements."""
