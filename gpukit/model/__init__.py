"""Models: chains and graphs of layers, their plan, and files of them."""
