"""Racing: implementations of a primitive are proven, then timed against each other and rivals."""
