"""Looking at models: sizes, curves, filters."""
