"""Races: the kernels' forms against each other, and whole networks against Keras.

Keras is the opponent here and only here. Nothing in `kernels` or `rawcnn` but the command line imports this package.
"""

import onednn  # noqa: F401 (before TensorFlow: it turns oneDNN on, for Keras too)
