"""Classify image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.data.decode import Item, read
from rawcnn.files.errors import one_line
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network


def predict(
    network: Network,
    files: Sequence[Path],
    *,
    top: int = 5,
    unreadable: list[str] | None = None,
    progress: Progress | None = None,
) -> list[dict]:
    """Classify image files; images are scaled to cover the network's input and cropped at the center.

    Args:
        network: The network.
        files: The image files.
        top: The number of classes to return for each.
        unreadable: Receives a message for each file that cannot be read; None raises an error instead.
        progress: Called as progress(done, total).

    Returns:
        For each file {"file", "guesses": [{"class", "label", "probability"}, …]}, the most probable class first.

    Raises:
        ValueError: The network has no classifier, or more or fewer class names than classes; a probability is not
            finite, or a file cannot be read.
    """
    network.check_classifier()
    labels = network.labels or tuple(str(n) for n in range(network.classes))
    network.check_labels()
    results = []
    for done, file in enumerate(files, start=1):
        try:
            image = read_image(file, network.image_size)
        except ValueError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
        else:
            probabilities = _probabilities(network, image)
            if not np.isfinite(probabilities).all():
                raise ValueError(
                    f"{network.name} gives probabilities of {file} that are not finite; its weights are damaged or "
                    f"too large for its precision: load others"
                )
            results.append({"file": str(file), "guesses": _guesses(probabilities, labels, top)})
        if progress:
            progress(done, len(files))
    return results


def _probabilities(network: Network, image: np.ndarray) -> np.ndarray:
    logits = network(tf.constant(image[None] / np.float32(255)))
    return kernels.softmax(logits)[0].numpy()


def _guesses(probabilities: np.ndarray, labels: Sequence[str], top: int) -> list[dict]:
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [{"class": int(c), "label": labels[c], "probability": float(probabilities[c])} for c in best]


def read_image(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an image as uint8 [H,W,3], scaled to cover `size` (H, W) and cropped. Raises ValueError."""
    try:
        return read(Item("test", str(file), 0, Path(file)), size)
    except Exception as error:  # Pillow raises many kinds for files that are not images
        raise ValueError(f"{file} cannot be read as an image ({one_line(error)})") from error
