"""Attribution: how much each position and each channel of a layer raises a class, for one image, by a linear estimate.

    spatial[k,x,y] = Σ_c  a[x,y,c] · ∂logit_k/∂a[x,y,c]        channels[k,c] = Σ_xy of the same

Olah et al., "The Building Blocks of Interpretability", Distill 2018, "Attribution". If the network were linear from
the layer on, the logit would fall by this much without that part of the activations. The estimate is exact where all
later layers are linear. It does not describe large changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.visualize.input_images import one_image
from rawcnn.visualize.layer_maps import as_map, check_classes

PREDICTED = 2  # classes that are compared by default: the two most likely
RANKED = 6  # channels that are listed for a class, and as many against it


@dataclass(frozen=True)
class Attribution:
    """The effect of a layer's activations on K classes. A layer without a map has one position.

    Attributes:
        classes: int32 [K].
        logits: float32 [K], of these classes.
        probabilities: float32 [K], of the softmax over all classes.
        activations: float32 [h,w,C], of the layer.
        gradients: float32 [K,h,w,C], of the logits by the activations.
    """

    classes: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    activations: np.ndarray = field(repr=False)
    gradients: np.ndarray = field(repr=False)

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
    """Estimate the effect of a layer's activations on the logits of some classes, for one image.

    Args:
        network: The network.
        image: [H,W,3] in [0,1].
        layer: The name of the layer.
        classes: By default the two most likely classes, the likelier first.
        compile: "auto", "xla", "graph", "mixed" or "eager".

    Returns:
        The classes with their logits, the layer's activations, and the gradients of the logits.

    Raises:
        ValueError: For an unknown layer or class, and for anything but one finite image in [0,1].

    Source:
        Olah et al., "The Building Blocks of Interpretability", Distill 2018, "Attribution".
    """
    images = one_image(image)
    network.operation(layer)  # raises a ValueError that names similar layers
    network.check_classifier()
    requested = [-1] * min(PREDICTED, network.classes) if classes is None else different_classes(classes, network)
    count = len(requested)

    def effects(images, classes):
        return logit_gradients(network, layer, images, classes, count)

    run = compiled(effects, choose(compile, network.devices, network.precision))
    return Attribution(*(tensor.numpy() for tensor in run(images, tf.constant(requested, tf.int32))))


def logit_gradients(
    network: Network, layer: str, image: tf.Tensor, classes: tf.Tensor, count: int
) -> tuple[tf.Tensor, ...]:
    """Compute the activations of a layer, and the gradients of several logits with respect to them.

    Args:
        network: The network.
        layer: The name of the layer.
        image: [1,H,W,3] in [0,1].
        classes: int32 [K]; −1 stands for the class of the same rank.
        count: K.

    Returns:
        The classes [K], their logits [K] and probabilities [K], the activations [h,w,C] and the gradients [K,h,w,C].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(image)  # so that the tape records the activations
        repeated = tf.repeat(image, count, axis=0)  # [K,H,W,3]: one backward pass for all classes
        logits, activations, _ = network.forward(repeated)
    ranked = tf.argsort(logits[0], direction="DESCENDING", stable=True)[:count]
    classes = tf.where(classes < 0, ranked, classes)
    one_hot = tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype)  # [K,classes]
    gradients = tape.gradient(
        logits, activations[layer], output_gradients=one_hot, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    probabilities = tf.gather(tf.nn.softmax(logits[0]), classes)
    return classes, tf.gather(logits[0], classes), probabilities, as_map(activations[layer])[0], as_map(gradients)


def ranked_channels(attribution: Attribution, count: int = RANKED) -> list[tuple[list[int], list[int]]]:
    """List the channels that raise each class most, and those that lower it most, the strongest first.

    Args:
        attribution: That of K classes.
        count: The largest number of channels in each list; channels without effect are in neither.

    Returns:
        K pairs (channels for the class, channels against it).
    """
    ranks = []
    for effects in attribution.channels:
        order = np.argsort(-effects, kind="stable")
        supporting = [int(c) for c in order[:count] if effects[c] > 0]
        opposing = [int(c) for c in order[::-1][:count] if effects[c] < 0]
        ranks.append((supporting, opposing))
    return ranks


def different_classes(classes: Sequence[int], network: Network) -> list[int]:
    """The classes as a list; ValueError for none, unknown or repeated ones."""
    chosen = check_classes(classes, network)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"classes are {chosen}, one of them twice; expected different ones")
    return chosen
