"""Optimization: the loop, density control, schedules, initialization, resumable state."""
