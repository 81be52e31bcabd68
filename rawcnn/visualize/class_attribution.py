"""How much each position and each channel of a layer raises a class, for one image: a linear estimate.

    spatial[k,x,y] = Σ_c  a[x,y,c] · ∂logit_k/∂a[x,y,c]        channels[k,c] = Σ_xy of the same

Olah et al., "The Building Blocks of Interpretability", Distill 2018, "Attribution". It is what the logit would fall by,
were a part of the activations taken away, if the network were linear from here on. It is exact where all that follows
the layer is linear, and it does not know what a large change would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network, check_images
from rawcnn.visualize.objectives import as_map

PREDICTED = 2  # classes that are told apart where none are named: the two most likely
RANKED = 6  # channels named for a class, and as many against it


@dataclass(frozen=True)
class Attribution:
    """What the activations of a layer say of K classes. A layer without map has one position."""

    classes: np.ndarray  # int32 [K]
    logits: np.ndarray  # float32 [K]
    probabilities: np.ndarray  # float32 [K], after the softmax over all classes
    activations: np.ndarray = field(repr=False)  # float32 [h,w,C]
    gradients: np.ndarray = field(repr=False)  # float32 [K,h,w,C], of the logits

    @property
    def effects(self) -> np.ndarray:
        """[K,h,w,C]: activation · gradient, in logits."""
        return self.activations * self.gradients

    @property
    def spatial(self) -> np.ndarray:
        """[K,h,w]: how much each position raises each class."""
        return self.effects.sum(axis=3)

    @property
    def channels(self) -> np.ndarray:
        """[K,C]: how much each channel raises each class."""
        return self.effects.sum(axis=(1, 2))


def attribution(
    network: Network, image, layer: str, classes: Sequence[int] | None = None, *, compile: str = "auto"
) -> Attribution:
    """The effect of a layer's activations on the logits of `classes`, for an image [H,W,3] in [0,1].

    Without `classes`, of the two that the network finds most likely, the likelier first. ValueError for an unknown
    layer or class, and for what is no image.
    """
    images = one_image(image)
    network.operation(layer)  # or a ValueError that names similar ones
    count = min(PREDICTED, network.classes) if classes is None else len(classes)
    chosen = [-1] * count if classes is None else _check_classes(network, classes)

    def step(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)  # and with it all that is made of them
            repeated = tf.repeat(images, len(chosen), axis=0)  # [K,H,W,3]: one backward pass for all classes
            logits, activations, _ = network.forward(repeated)
        ranked = tf.argsort(logits[0], direction="DESCENDING", stable=True)[: len(chosen)]
        classes = tf.where(classes < 0, ranked, classes)
        alone = tf.one_hot(classes, logits.shape[-1])
        gradients = tape.gradient(
            logits, activations[layer], output_gradients=alone, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        probabilities = tf.gather(tf.nn.softmax(logits[0]), classes)
        return classes, tf.gather(logits[0], classes), probabilities, as_map(activations[layer])[0], as_map(gradients)

    run = compiled(step, choose(compile, network.devices, network.precision))
    return Attribution(*(tensor.numpy() for tensor in run(images, tf.constant(chosen, tf.int32))))


def ranked_channels(attribution: Attribution, count: int = RANKED) -> list[tuple[list[int], list[int]]]:
    """For each class the channels that raise it most and those that lower it most, the strongest first.

    At most `count` of each; a channel without effect is in neither.
    """
    ranks = []
    for effects in attribution.channels:
        order = np.argsort(-effects, kind="stable")
        supporting = [int(c) for c in order[:count] if effects[c] > 0]
        ranks.append((supporting, [int(c) for c in order[::-1][:count] if effects[c] < 0]))
    return ranks


def one_image(image) -> tf.Tensor:
    """An image [H,W,3] as a batch of one, float32 [1,H,W,3]. ValueError for anything else."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"the image has shape {image.shape}; expected one RGB image [H,W,3]")
    images = check_images(image[None])
    if not np.isfinite(image).all():
        raise ValueError("the image has values that are not finite; expected numbers in [0,1]")
    return images


def _check_classes(network: Network, classes: Sequence[int]) -> list[int]:
    chosen = [int(k) for k in classes]
    wrong = [k for k in chosen if not 0 <= k < network.classes]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        told = wrong or (chosen and f"{chosen}, one of them twice") or "none"
        raise ValueError(f"classes are {told}; expected different ones of 0 to {network.classes - 1}")
    return chosen
