"""`gpukit kernels new`: a plug-in that works, to start from."""
