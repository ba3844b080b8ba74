"""Geometry of cameras and points that several rooms need: viewing axes, boxes, carving, triangulation, pose adjustment."""
