"""The steps of rawcnn on any machine with JAX, a GPU's above all, without TensorFlow.

    python -m benchmarks.pjrt.export FOLDER …    here, with TensorFlow: a folder a workload, its programs as StableHLO
    python -m benchmarks.pjrt.run FOLDER …       there, with JAX: compile, compare with what the CPU gave, time

Weights do not travel: both sides draw them from one seed (`benchmarks.pjrt.arrays`). Keras on its JAX backend and
PyTorch, where they are installed there, do the same work beside it (`benchmarks.pjrt.peers`). Only `export` and
`workloads` import TensorFlow.
"""
