"""Correspondences between images, found without network weights: dense optical flow and the point tracks that it chains to.

A room of its own, below geometry: `engine/geometry` works with cameras and points, this one with pixels alone.
"""
