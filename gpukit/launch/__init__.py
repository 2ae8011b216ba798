"""From a kernel's source text to a checked launch, on a card or on the CPU."""
