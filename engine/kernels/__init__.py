"""How kernels for the CPU are compiled and launched, and the vectors that they compute with.

Importing the package imports no numba; each of its modules but `threads` does.
"""
