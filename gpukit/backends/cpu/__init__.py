"""Fast CPU implementations of the primitives, a file a family."""
