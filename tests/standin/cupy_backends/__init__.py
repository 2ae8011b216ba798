"""The stand-in for what CuPy has below its arrays: cuBLAS."""
