"""Checks of kernels: compiled for every architecture, run on the CPU, and on a card where one is.

coverage lists implementations and their kernels; run_case runs a case against the definition, fuzz
and worker do so in worker processes, under the emulator's sanitizers; cheats tries what random
cases do not show. `gpukit kernels` and the pytest plug-in show the results.
"""
