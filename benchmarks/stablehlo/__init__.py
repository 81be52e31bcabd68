"""The steps of rawcnn on any machine with JAX, a GPU's above all, without TensorFlow.

    python -m benchmarks.stablehlo.export FOLDER …    here, with TensorFlow: a folder for each workload, with StableHLO
    python -m benchmarks.stablehlo.run FOLDER …       there, with JAX: compile, compare with what the CPU gave, time

Weights do not travel: both sides draw them from one seed (`benchmarks.stablehlo.arrays`). Keras on its JAX backend and
PyTorch, where they are installed there, do the same work beside it (`benchmarks.stablehlo.peers`). Only `export` and
`workloads` import TensorFlow.
"""
