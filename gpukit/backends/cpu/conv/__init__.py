"""Convolution and its gradients on the CPU."""
