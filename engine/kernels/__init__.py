"""Kernels for the CPU that losses, deformations and rendering call, how kernels are compiled and launched, and their vectors.

Importing the package imports no numba; each of its modules but `threads` does.
"""
