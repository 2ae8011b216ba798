"""What CPU implementations stand on: threads, BLAS, compiled loops, memory, vectors."""
