"""Races: implementations of a primitive are verified, then timed against each other and rivals."""
