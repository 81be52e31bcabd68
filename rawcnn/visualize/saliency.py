"""Saliency maps: the pixels that a class depends on, by the gradient of its logit.

    gradient               ∂y/∂x                                             Simonyan et al. 2014, section 3
    smooth gradient        mean over noise n ~ N(0, σ²) of ∂y/∂x at x + n    Smilkov et al. 2017, section 3
    integrated gradients   (x − x₀) · ∫₀¹ ∂y/∂x at x₀ + α(x − x₀) dα         Sundararajan et al. 2017, section 3

y is a logit. A probability after the softmax could also rise because all other logits fall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import tensorflow as tf

from kernels.geometry import is_integer
from rawcnn.nn.arguments import number_array, real, whole_number
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.visualize.input_images import check_pixels, unit_images
from rawcnn.visualize.layer_maps import check_classes
from rawcnn.visualize.pictures import diverging, picture

ROWS = 64  # images per call of the gradient, which bounds the memory of the two averages

# (images [B,H,W,3], classes [B], −1 for the predicted one) → (gradients [B,H,W,3], classes [B], logits [B])
Gradient = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


@dataclass(frozen=True)
class Saliency:
    """Saliency maps of B images for one class each.

    Attributes:
        maps: float32 [B,H,W,3], signed; logits per unit of a pixel, or logits for integrated gradients.
        classes: int32 [B].
        logits: float32 [B], of these classes.
        gap: float64 [B], of integrated gradients: sum of the map − (logit − baseline's logit); None for other methods.
    """

    maps: np.ndarray = field(repr=False)
    classes: np.ndarray
    logits: np.ndarray
    gap: np.ndarray | None = None

    @property
    def grey(self) -> np.ndarray:
        """One value per pixel, [B,H,W]: the largest magnitude of a gradient's colors, or the sum of integrated ones."""
        return np.abs(self.maps).max(axis=-1) if self.gap is None else self.maps.sum(axis=-1)


def saliency_pictures(saliency: Saliency, percentile: float = 99) -> list[np.ndarray]:
    """Draw the gray maps: from black to white; integrated gradients red for the class and blue against it.

    Args:
        saliency: The maps of B images.
        percentile: The percentile of each map's magnitudes at which the color scale ends, because a few pixels have
            values far above all others.

    Returns:
        B pictures [H,W,3].

    Raises:
        ValueError: for a percentile that is no number from 0 to 100.
    """
    percentile = real("percentile", percentile)
    if percentile > 100:
        raise ValueError(f"percentile is {percentile:g}; expected 0 to 100")
    pictures = []
    for gray in saliency.grey:
        sizes = np.abs(gray)
        scaled = gray / (np.percentile(sizes, percentile) or sizes.max() or 1)
        pictures.append(picture(scaled) if saliency.gap is None else diverging(scaled, 1))
    return pictures


# The algorithms --------------------------------------------------------------------------------------------------


def logit_gradient(network: Network, images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute the gradient of one logit per image with respect to its pixels.

    Args:
        network: The network.
        images: float32 [B,H,W,3] in [0,1].
        classes: int32 [B]; −1 stands for the predicted class.

    Returns:
        The gradients [B,H,W,3], the classes [B] and their logits [B].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = network(images)  # [B,K]
    classes = tf.where(classes < 0, tf.argmax(logits, axis=1, output_type=tf.int32), classes)
    one_hot = tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype)  # [B,K]
    chosen = tf.gather(logits, classes, batch_dims=1)  # [B]
    return tape.gradient(logits, images, output_gradients=one_hot), classes, chosen


def input_gradient(
    network: Network, images, classes: int | Sequence[int] | None = None, *, compile: str = "auto"
) -> Saliency:
    """Compute the gradient of a logit with respect to the pixels.

    Args:
        network: The network.
        images: [B,H,W,3] in [0,1].
        classes: One class for all images, or one per image; by default the predicted classes.
        compile: "auto", "xla", "graph", "mixed" or "eager".

    Returns:
        One signed map [H,W,3] per image, in logits per unit of a pixel.

    Raises:
        ValueError: For a class that the network does not have, and for images that are not finite or not in [0,1].

    Source:
        Simonyan et al. 2014, section 3.
    """
    _, maps, chosen, logits = _at_images(network, images, classes, compile)
    return Saliency(maps, chosen, logits)


def smooth_gradient(
    network: Network,
    images,
    classes: int | Sequence[int] | None = None,
    *,
    samples: int = 50,
    spread: float = 0.15,
    seed: int = 0,
    compile: str = "auto",
) -> Saliency:
    """Average the gradient over noisy copies of each image (SmoothGrad).

    Noisy copies are not clipped to [0,1]. Sample k adds the same noise to all images of a batch, scaled by each
    image's range, so the map of an image does not depend on the others.

    Args:
        network: The network.
        images: [B,H,W,3] in [0,1].
        classes: One class for all images, or one per image; by default the classes predicted without noise.
        samples: Noisy copies per image.
        spread: The noise level of the paper, σ / (largest − smallest value of the image).
        seed: The seed of the noise.
        compile: "auto", "xla", "graph", "mixed" or "eager".

    Returns:
        One signed map [H,W,3] per image, in logits per unit of a pixel.

    Raises:
        ValueError: For a class that the network does not have, samples below 1, a negative spread, and images that
            are not finite or not in [0,1].

    Source:
        Smilkov et al. 2017, section 3.
    """
    samples, seed = whole_number("samples", samples), whole_number("seed", seed, least=0, most=None)
    spread = real("spread", spread)
    gradient, _, chosen, logits = _at_images(network, images, classes, compile)
    images = np.asarray(images, np.float32)
    deviation = spread * np.ptp(images, axis=(1, 2, 3), keepdims=True)  # σ, [B,1,1,1]

    def noisy(k: int) -> np.ndarray:
        generator = np.random.Generator(np.random.PCG64([seed, k]))
        return images + deviation * generator.standard_normal(images.shape[1:], np.float32)

    mean = mean_gradient(gradient, noisy, samples, chosen)
    return Saliency(mean.astype(np.float32), chosen, logits)


def integrated_gradients(
    network: Network,
    images,
    classes: int | Sequence[int] | None = None,
    *,
    steps: int = 64,
    baseline: float | np.ndarray = 0.0,
    compile: str = "auto",
) -> Saliency:
    """Average the gradient along the line from a baseline to each image, times their difference.

    In the limit of many steps a map sums to the logit minus the logit of the baseline (completeness, proposition 1).
    `gap` is the difference from that.

    Args:
        network: The network.
        images: [B,H,W,3] in [0,1].
        classes: One class for all images, or one per image; by default the predicted classes.
        steps: Midpoints of the Riemann sum.
        baseline: A number (0 is black), an image [H,W,3], or one per image [B,H,W,3], in [0,1].
        compile: "auto", "xla", "graph", "mixed" or "eager".

    Returns:
        One signed map [H,W,3] per image, in logits, and the gap of each.

    Raises:
        ValueError: For a class that the network does not have, steps below 1, a baseline of another shape, and images
            or a baseline that are not finite or not in [0,1].

    Source:
        Sundararajan et al. 2017, section 3 and section 5, "Computing integrated gradients".
    """
    steps = whole_number("steps", steps)
    start = _baseline(baseline, tuple(unit_images(images).shape))  # x₀, [B,H,W,3]
    gradient, _, chosen, logits = _at_images(network, images, classes, compile)
    difference = np.asarray(images, np.float32) - start  # x − x₀

    def between(k: int) -> np.ndarray:
        return start + np.float32((k + 0.5) / steps) * difference

    maps = mean_gradient(gradient, between, steps, chosen) * difference  # float64 [B,H,W,3]
    _, _, logits_at_start = gradient(tf.constant(start), tf.constant(chosen))
    gap = maps.sum(axis=(1, 2, 3)) - (logits.astype(np.float64) - logits_at_start.numpy())
    return Saliency(maps.astype(np.float32), chosen, logits, gap)


def mean_gradient(
    gradient: Gradient, variant: Callable[[int], np.ndarray], count: int, classes: np.ndarray
) -> np.ndarray:
    """Average the gradients at several variants of a batch of images.

    Args:
        gradient: The compiled `logit_gradient`.
        variant: K → the variant k of the images, [B,H,W,3].
        count: How many variants.
        classes: int32 [B].

    Returns:
        float64 [B,H,W,3].
    """
    batch, size = len(classes), _group_size(count, len(classes))
    repeated, total = tf.constant(np.tile(classes, size)), np.zeros(())
    for first in range(0, count, size):
        group = np.concatenate([variant(k) for k in range(first, first + size)])  # [size·B,H,W,3]
        gradients, _, _ = gradient(tf.constant(group, tf.float32), repeated)
        total = total + gradients.numpy().reshape(size, batch, *group.shape[1:]).sum(axis=0, dtype=np.float64)
    return total / count


# Around them -----------------------------------------------------------------------------------------------------


def _group_size(count: int, batch: int) -> int:
    """Variants per call: the largest divisor of `count` that ROWS allows, so that all calls have one shape."""
    return max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * batch <= ROWS))


def _at_images(
    network: Network, images, classes: int | Sequence[int] | None, compile: str
) -> tuple[Gradient, np.ndarray, np.ndarray, np.ndarray]:
    """The compiled gradient function; and at the images themselves gradients [B,H,W,3], classes [B], logits [B]."""
    images = unit_images(images)
    requested = tf.constant(_requested_classes(network, classes, len(images)), tf.int32)
    signature = [tf.TensorSpec((None, *images.shape[1:]), tf.float32), tf.TensorSpec((None,), tf.int32)]
    choice = choose(compile, network.devices, network.precision)
    gradient = compiled(partial(logit_gradient, network), choice, signature)
    gradients, chosen, logits = gradient(images, requested)
    return gradient, gradients.numpy(), chosen.numpy(), logits.numpy()


def _requested_classes(network: Network, classes: int | Sequence[int] | None, batch: int) -> np.ndarray:
    """The class of each image, [B]; −1 for the predicted one."""
    if classes is None:
        return np.full(batch, -1)
    requested = np.array(check_classes(classes, network))
    if is_integer(classes):
        return np.full(batch, requested[0])
    if requested.shape != (batch,):
        raise ValueError(f"there are {len(requested)} classes for {batch} images; expected one, or one for each image")
    return requested


def _baseline(baseline: float | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The baseline of each image, float32 [B,H,W,3]."""
    expected = f"a number or the shape of {shape}"
    if isinstance(baseline, (bool, np.bool_)):
        raise ValueError(f"the baseline is {baseline!r}; expected {expected}")
    values = number_array("the baseline", baseline, expected).astype(np.float32)
    try:
        broadcast = np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"the baseline has shape {values.shape}; expected {expected}") from None
    check_pixels(values, "baseline's pixels")
    return broadcast
