"""Networks as graphs of layers: their plan, fusion of its steps, the forward pass."""
