"""Masks: from images to Gaussians."""
