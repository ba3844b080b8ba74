"""Figures for people: charts, training curves, contact sheets, tables and color maps."""
