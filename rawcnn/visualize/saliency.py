"""Which pixels a class depends on: the gradient of its logit, averaged over noise, or over the way from a baseline.

    gradient               ∂y/∂x                                          Simonyan, Vedaldi, Zisserman 2014, section 3
    smooth gradient        mean over noise n ~ N(0, σ²) of ∂y/∂x (x + n)        Smilkov et al. 2017, section 3
    integrated gradients   (x − x₀) · ∫₀¹ ∂y/∂x (x₀ + α(x − x₀)) dα       Sundararajan, Taly, Yan 2017, section 3

y is a logit, before the softmax, which could be raised by lowering all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network, check_images
from rawcnn.visualize.pictures import diverging, picture

ROWS = 64  # images in one step, where each image comes in many forms: what bounds the memory


@dataclass(frozen=True)
class Saliency:
    """What each pixel of B images says of a class."""

    maps: np.ndarray = field(repr=False)  # float32 [B,H,W,3], signed; in logits a unit of pixel, integrated in logits
    classes: np.ndarray  # int32 [B]
    logits: np.ndarray  # float32 [B], of these classes
    gap: np.ndarray | None = None  # float64 [B], of integrated gradients: sum of the map − (logit − the baseline's)

    @property
    def grey(self) -> np.ndarray:
        """[B,H,W]: of a gradient the largest magnitude in the three colours; of integrated ones their sum, signed."""
        return np.abs(self.maps).max(axis=-1) if self.gap is None else self.maps.sum(axis=-1)


def saliency_pictures(saliency: Saliency, percentile: float = 99) -> list[np.ndarray]:
    """The grey maps as pictures: black to white; of integrated gradients red for the class, blue against it.

    Each is scaled by its own `percentile` of magnitudes, what is above it is full: a few pixels stand out far.
    """
    pictures = []
    for grey in saliency.grey:
        sizes = np.abs(grey)
        scaled = grey / (np.percentile(sizes, percentile) or sizes.max() or 1)
        pictures.append(picture(scaled) if saliency.gap is None else diverging(scaled, 1))
    return pictures


def input_gradient(
    network: Network, images, classes: int | Sequence[int] | None = None, *, compile: str = "auto"
) -> Saliency:
    """The gradient of a logit to the pixels of images [B,H,W,3] in [0,1].

    `classes` is one for all images or one for each; None is what the network predicts. ValueError for a class that
    the network has not.
    """
    _, maps, chosen, logits = _first_step(network, images, classes, compile)
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
    """The mean gradient over `samples` noisy copies of each image; the rest as `input_gradient`.

    The noise is normal, its deviation `spread`·(largest − smallest value of the image); noisy copies are not clipped
    to [0,1]. Sample k adds the same noise to all images of a batch, so an image's map does not depend on the others.
    """
    if samples < 1 or not 0 <= spread < np.inf:
        raise ValueError(f"samples is {samples} and spread is {spread}; expected 1 or more, and no negative spread")
    step, _, chosen, logits = _first_step(network, images, classes, compile)
    images = np.asarray(images, np.float32)
    deviation = spread * np.ptp(images, axis=(1, 2, 3), keepdims=True)

    def noisy(k: int) -> np.ndarray:
        generator = np.random.Generator(np.random.PCG64([seed, k]))
        return images + deviation * generator.standard_normal(images.shape[1:], np.float32)

    return Saliency(_mean_gradient(step, noisy, samples, chosen).astype(np.float32), chosen, logits)


def integrated_gradients(
    network: Network,
    images,
    classes: int | Sequence[int] | None = None,
    *,
    steps: int = 64,
    baseline: float | np.ndarray = 0.0,
    compile: str = "auto",
) -> Saliency:
    """The gradient, averaged along the line from `baseline` to each image, times their difference; `steps` midpoints.

    `baseline` is a number, an image [H,W,3] or one for each [B,H,W,3], in [0,1]; 0 is black. In the limit the map sums
    to the logit minus that of the baseline (completeness, proposition 1): `gap` is by how much it misses that, which
    more steps make smaller. The rest as `input_gradient`.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected 1 or more")
    shape = tuple(check_images(images).shape)
    try:
        start = np.broadcast_to(np.asarray(baseline, np.float32), shape)
    except ValueError:
        given = np.shape(baseline)
        raise ValueError(f"the baseline has shape {given}; expected a number or the shape of {shape}") from None
    step, _, chosen, logits = _first_step(network, images, classes, compile)
    difference = np.asarray(images, np.float32) - start
    mean = _mean_gradient(step, lambda k: start + np.float32((k + 0.5) / steps) * difference, steps, chosen)
    maps = mean * difference  # float64
    _, _, at_start = step(tf.constant(start), tf.constant(chosen))
    gap = maps.sum(axis=(1, 2, 3)) - (logits.astype(np.float64) - at_start.numpy())
    return Saliency(maps.astype(np.float32), chosen, logits, gap)


def _first_step(
    network: Network, images, classes: int | Sequence[int] | None, compile: str
) -> tuple[Callable, np.ndarray, np.ndarray, np.ndarray]:
    """(compiled step, gradients [B,H,W,3], classes [B], their logits [B]) of the images as they are.

    The step (images, classes [B]) → (gradients, classes, logits) takes the predicted class for −1.
    """
    images = check_images(images)
    batch = len(images)
    wanted = np.full(batch, -1)
    if classes is not None:
        wanted = np.full(batch, classes) if np.ndim(classes) == 0 else np.asarray(classes)
        if wanted.shape != (batch,):
            raise ValueError(f"there are {len(wanted)} classes for {batch} images; expected one, or one for each image")
        if np.any(wanted < 0) or np.any(wanted >= network.classes):
            raise ValueError(f"classes are {classes}; {network.name} has classes 0 to {network.classes - 1}")

    def step(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = network(images)  # [B,classes]
        classes = tf.where(classes < 0, tf.argmax(logits, axis=1, output_type=tf.int32), classes)
        alone = tf.one_hot(classes, logits.shape[-1])
        own = tf.gather(logits, classes, batch_dims=1)  # [B]
        return tape.gradient(logits, images, output_gradients=alone), classes, own

    signature = [tf.TensorSpec((None, *images.shape[1:]), tf.float32), tf.TensorSpec((None,), tf.int32)]
    run = compiled(step, choose(compile, network.devices, network.precision), signature)
    gradients, predicted, own = run(images, tf.constant(wanted, tf.int32))
    return run, gradients.numpy(), predicted.numpy(), own.numpy()


def _mean_gradient(step: Callable, form: Callable[[int], np.ndarray], count: int, classes: np.ndarray) -> np.ndarray:
    """Mean of the gradients at form(0) … form(count − 1), each [B,H,W,3]: float64 [B,H,W,3].

    A step takes as many forms as ROWS hold and `count` is a multiple of, so that all steps are of one shape.
    """
    batch = len(classes)
    together = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * batch <= ROWS))
    repeated, total = tf.constant(np.tile(classes, together)), np.zeros(())
    for first in range(0, count, together):
        rows = np.concatenate([form(k) for k in range(first, first + together)])  # [together·B,H,W,3]
        gradients, _, _ = step(tf.constant(rows, tf.float32), repeated)
        total = total + gradients.numpy().reshape(together, batch, *rows.shape[1:]).sum(axis=0, dtype=np.float64)
    return total / count
