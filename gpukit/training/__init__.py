"""Training: the loop behind fit and evaluate, its progress, and checkpoints."""
