"""Benchmarks: forms of kernels against each other, and networks, attacks and visualizations against other libraries.

Only this package uses Keras as an opponent. In `kernels` and `rawcnn` only the command line imports it.
"""

import onednn  # noqa: F401 (before TensorFlow, because it enables oneDNN, for Keras too)
