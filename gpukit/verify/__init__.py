"""Checks of kernels: compiled for every card, run on the CPU, and on a card where there is one.

coverage says what there is; trial runs a case and holds it to the definition, fuzz and worker do so
in other processes, under the emulator's checkers; cheats tries what random cases do not show;
budgets, sass and fit look at what the compilers made. `gpukit kernels` shows it.
"""
