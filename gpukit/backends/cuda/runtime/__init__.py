"""What launchers stand on: memory, grids, strides, tiles, copies between cards."""
