"""Settings for all tests, made before NumPy and the extension load the libraries that read them."""

import os

# Threads that wait give their core away: with more threads than free cores a spinning one holds up those it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# NumPy's products in the reference are small; threads for them cost several times what they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
