"""Launchers of convolution and its gradients."""
