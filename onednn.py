"""oneDNN, the library of fast CPU kernels inside TensorFlow: turn it on where TensorFlow leaves it off.

On Linux, TensorFlow turns oneDNN on by default where the processor has AVX-512 or AMX instructions for neural networks,
or AVX-VNNI. With AVX2 alone it leaves oneDNN off, although it is faster there, too. TensorFlow decides when it is
imported. It reads the environment variable TF_ENABLE_ONEDNN_OPTS then.

Importing this module sets that variable, before TensorFlow is imported, for this process and those that it starts. So
this module imports no TensorFlow itself. `rawcnn` and `kernels` import it first. It only looks at Linux's
/proc/cpuinfo: on other systems TensorFlow's default stays, which is on for Windows and off for macOS.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from functools import cache
from pathlib import Path

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
CPUINFO = Path("/proc/cpuinfo")


def enable() -> None:
    """Set the variable if the processor has AVX2 and the user has not set it; warn if that is too late."""
    if VARIABLE in os.environ or not has_avx2():
        return
    if "tensorflow" not in sys.modules:
        os.environ[VARIABLE] = "1"
    elif not in_use():
        warnings.warn(
            f"TensorFlow was imported before rawcnn and runs without oneDNN, which is slower on this processor; "
            f"import rawcnn first or set the environment variable {VARIABLE}=1 (0 keeps it off without this warning)",
            RuntimeWarning,
            stacklevel=4,  # enable, this module, rawcnn or kernels, and the module that imports it
        )


def has_avx2() -> bool:
    """Return whether Linux lists AVX2 among the processor's features; False on other systems."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and "avx2" in flags[1].split()


@cache
def in_use() -> bool:
    """Return whether TensorFlow, which this imports, runs oneDNN's kernels; False if it does not say."""
    import tensorflow  # noqa: F401 (it decides while it is imported)

    try:
        from tensorflow.python.util import _pywrap_util_port  # TensorFlow has no public name for it

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        return False


def state() -> str:
    """Return "on" or "off", as `in_use` says."""
    return "on" if in_use() else "off"


enable()
