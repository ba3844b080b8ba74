"""Scene files, exchange formats, view folders and imports from other programs."""
