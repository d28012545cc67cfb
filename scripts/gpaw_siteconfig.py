"""How GPAW is compiled for `make test-dft`: serial, with libxc and the system's BLAS. Named by $GPAW_CONFIG.

Left to itself GPAW takes `mpicc` where one is installed, and fails where MPI's headers are not.
"""

mpi = False
compiler = "gcc"
libraries = ["xc", "blas"]
