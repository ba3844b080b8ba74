"""Reading and writing files safely: whole-or-nothing writes, contained paths, bounded readers of common formats."""
