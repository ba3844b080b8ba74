"""Charts, training curves, contact sheets, tables and color maps."""
