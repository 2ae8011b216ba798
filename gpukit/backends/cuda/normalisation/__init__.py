"""Launchers of batch normalisation and local response normalisation."""
