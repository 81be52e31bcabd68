"""oneDNN, the library of CPU kernels that TensorFlow's graphs use: whether it is in use, and turning it on.

TensorFlow decides once, when it is imported. The environment variable TF_ENABLE_ONEDNN_OPTS decides if it is set.
This module imports no TensorFlow at its top level, so that it can set the variable first.
"""

from __future__ import annotations

from functools import cache


@cache
def in_use() -> bool:
    """Return whether the imported TensorFlow runs oneDNN's kernels; False where TensorFlow cannot say."""
    import tensorflow  # noqa: F401 (its answer is known after the import only)

    try:
        from tensorflow.python.util import _pywrap_util_port  # TensorFlow has no public name for it

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        return False
