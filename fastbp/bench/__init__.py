"""Measuring fastbp: timing, verified kernel calls, training steps. `fastbp bench` and benchmarks/ share it.

`timing` takes runs in turns and compares them within rounds, `machine` knows the limits that a fraction is taken of,
`call` is a native kernel on operands of its own, `cases` lists products and memory-bound kernels, `workloads` training
steps; `short` is what `fastbp bench` runs.
"""
