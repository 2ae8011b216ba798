"""Models: `Sequential` and `Model`, their files, and layers that are split into shards."""
