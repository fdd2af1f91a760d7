"""A process that trains, for test_processes.py: for each number on standard input it runs so many steps and says so."""

from __future__ import annotations

import sys

from fastbp.bench.workloads import WORKLOADS, eager_step, verify

workload = WORKLOADS[sys.argv[1]]
verify(eager_step(workload), workload)
step = eager_step(workload)
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        step()
    print("done", flush=True)
