"""The steps of rawcnn on any machine with JAX, such as one with a GPU, without TensorFlow.

    python -m benchmarks.stablehlo.export FOLDER …    with TensorFlow: write a folder per workload, with StableHLO
    python -m benchmarks.stablehlo.run FOLDER …       with JAX: compile, compare with the CPU's results, time

Weights are not exported: both programs draw them from the same seed (`benchmarks.stablehlo.arrays`). Keras on its JAX
backend and PyTorch compute the same workloads if they are installed (`benchmarks.stablehlo.peers`). Of this package
only `export`, `workloads` and `forms` import TensorFlow.
"""
