"""Captures: readers of multi-view video, converters to the native layout, frame access, inspection, undistortion."""
