"""`gpukit kernels new`: writes a working plug-in to start from."""
