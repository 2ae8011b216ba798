"""Launchers of softmax and losses."""
