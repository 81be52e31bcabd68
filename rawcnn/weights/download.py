"""Download the weights that Keras publishes, into Keras's cache, with Keras's addresses, hashes and downloader.

keras.applications builds a model around the file; rawcnn needs only the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from rawcnn.files.errors import one_line

BASE = "https://storage.googleapis.com/tensorflow/keras-applications"
TF_KERNELS = "weights_tf_dim_ordering_tf_kernels.h5"
KERAS = {  # model → (URL, MD5), as in keras.applications 3
    "vgg16": (f"{BASE}/vgg16/vgg16_{TF_KERNELS}", "64373286793e3c8b2b4e3219cbf3544b"),
    "vgg19": (f"{BASE}/vgg19/vgg19_{TF_KERNELS}", "cbe5617147190e668d6c5d5026f83318"),
    "resnet50": (f"{BASE}/resnet/resnet50_{TF_KERNELS}", "2cb95161c43110f7111970584f804107"),
    "resnet101": (f"{BASE}/resnet/resnet101_{TF_KERNELS}", "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
    "resnet152": (f"{BASE}/resnet/resnet152_{TF_KERNELS}", "100835be76be38e30d865e96f2aaae62"),
    "inception_v3": (f"{BASE}/inception_v3/inception_v3_{TF_KERNELS}", "9a0d58056eeedaa3f26cb7ebd46da564"),
    "inception_resnet_v2": (
        f"{BASE}/inception_resnet_v2/inception_resnet_v2_{TF_KERNELS}",
        "e693bd0210a403b3192acc6073ad2e96",
    ),
    "nasnet_mobile": (f"{BASE}/nasnet/NASNet-mobile.h5", "020fb642bf7360b370c678b08e0adf61"),
    "nasnet_large": (f"{BASE}/nasnet/NASNet-large.h5", "11577c9a518f0070763c2b964a382f17"),
}
CLASSES = (
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)


def fetch(model: str) -> Path:
    """Return the file with Keras's ImageNet weights of `model`. It is downloaded unless the cache holds it complete.

    Args:
        model: The model's name, a key of KERAS.

    Raises:
        ValueError: Keras publishes no weights of this model, or the download fails.
    """
    if model not in KERAS:
        raise ValueError(f"Keras publishes no weights of {model}; it has {', '.join(KERAS)}")
    return _get(*KERAS[model])


def fetch_labels() -> tuple[str, ...]:
    """Return the names of ImageNet's classes in the order of Keras's weights.

    Raises:
        ValueError: The download fails.
    """
    index = json.loads(_get(*CLASSES).read_text(encoding="utf-8"))
    return tuple(index[str(n)][1].replace("_", " ") for n in range(len(index)))


class _Stderr(io.TextIOBase):
    """Print Keras's progress bar to stderr. Keras's lines before the bar are printed only if a download begins."""

    def __init__(self):
        self.held: list[str] | None = []

    def write(self, text: str) -> int:
        if self.held is not None and text.endswith("\n"):
            self.held.append(text)
            return len(text)
        sys.stderr.write("".join(self.held or ()) + text)
        self.held = None
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def _get(url: str, md5: str) -> Path:
    """Download a file into Keras's cache and check its hash."""
    import keras

    try:
        with contextlib.redirect_stdout(_Stderr()):
            return Path(keras.utils.get_file(origin=url, file_hash=md5, cache_subdir="models"))
    except Exception as error:  # Keras raises a bare Exception if a download fails
        raise ValueError(
            f"Keras's file could not be downloaded ({one_line(error)}); connect to the internet once, or copy the file "
            "here and load it with rawcnn weights import"
        ) from error
