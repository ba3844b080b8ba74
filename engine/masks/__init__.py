"""Masks: from pictures to Gaussians."""
