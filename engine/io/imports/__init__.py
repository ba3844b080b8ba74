"""Scenes made by other programs."""
