"""Optimisation: the loop, density control, schedules, initialisation, resumable state."""
