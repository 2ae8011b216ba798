"""Checks of kernels that need no card: compiled for every one, run on the CPU, held to definitions.

coverage says what there is, cases and compare run it on fuzzed shapes, worker and fuzz under the
emulator's checkers, budgets and sass look at what the compilers made. `gpukit kernels` shows it.
"""
