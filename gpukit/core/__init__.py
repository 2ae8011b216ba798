"""What every room needs and none owns: files, settings, caches, locks, signals, processes."""
