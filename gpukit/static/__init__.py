"""What compilers made of kernels: registers, shared memory, occupancy, machine code."""
