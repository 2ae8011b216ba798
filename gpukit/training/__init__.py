"""Training: compile, fit, evaluate, predict; the loop behind them, its steps and checkpoints."""
