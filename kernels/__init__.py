"""Numbers in, numbers out: NumPy arrays and Numba only. No chemistry library, no torch, no I/O."""
