"""Static analysis of compiled kernels: register budgets, occupancy, instruction mix, SASS."""
