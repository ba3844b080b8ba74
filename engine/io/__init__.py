"""Files in and out: readers of multi-view video, scene files, exchange formats. Paths are contained before use."""
