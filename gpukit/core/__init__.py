"""Infrastructure for every room: files, settings, caches, locks, signals, worker processes."""
