"""Settings for all tests."""

import os

# Threads that wait give their core away: with more threads than free cores a spinning one holds up those it waits for.
# Read when the extension loads its OpenMP runtime.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
