"""Inspection of models: sizes of layers, device placement, training curves, filters."""
