"""The papers' protocols for test images: which views of an image they classify, and how they average the results.

    whole        the image scaled to cover the network's input and cropped at the center, as in `evaluate`
    center       the central crop of the image at a shorter side of 256
    10crop       Krizhevsky et al. 2012, §4.1: corners, center, and their mirror images
    dense        Simonyan & Zisserman 2015, §3.2 (Sermanet et al. 2014): the network as a convolution over the image
    multiscale   the same at several sizes: Simonyan & Zisserman 2015, §4.2; He et al. 2016, §3.4
    144crop      Szegedy et al. 2015, §7: 4 scales × 3 squares × 6 crops × 2 mirror images

A protocol is a function that cuts the *views* of an image. The result is the mean of the network's softmax over the
views; for an ensemble it is also the mean over the members. The papers' scales are shorter sides in pixels for networks
of 224 pixels. They are scaled with the network's input: 256 becomes 37 for 32 pixels. The longer side decides if the
input is not square, and crops have its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from math import log
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

import kernels
from kernels.geometry import is_integer
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation, finite, joined, ranks
from rawcnn.evaluation.class_names import match_classes
from rawcnn.files.journal import Journal
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import listed
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace

# Views: an image uint8 [H,W,3], the network's (height, width), scales → arrays uint8 [h,w,3] --------------------

Views = Iterator[np.ndarray]
Sides = tuple[int, int]  # height and width of the network's images


def whole_image(image: np.ndarray, size: Sides, scales: Sequence[int]) -> Views:
    """Yield one view: scaled to cover `size` and cropped at the center, as in `data.load`. It has no scales."""
    yield _covering(image, size)


def center(image: np.ndarray, size: Sides, scales: Sequence[int]) -> Views:
    """Yield one view per scale: the central crop.

    An image that has the size of the network's input, as those of CIFAR, is the only view (He et al. 2016, §4.2: "the
    single view of the original 32×32 image").
    """
    if image.shape[:2] == size:
        yield image
        return
    for scale in scales:
        x = scaled(image, scale)
        top, left = (x.shape[0] - size[0]) // 2, (x.shape[1] - size[1]) // 2
        yield x[top : top + size[0], left : left + size[1]]


def ten_crops(image: np.ndarray, size: Sides, scales: Sequence[int]) -> Views:
    """Yield ten views per scale: the corners and the center of the central square, each with its mirror image."""
    for scale in scales:
        _, square, _ = _squares(scaled(image, scale))
        for crop in _corners_and_center(square, size):
            yield from _with_mirror(crop)


def uncropped(image: np.ndarray, size: Sides, scales: Sequence[int]) -> Views:
    """Yield two views per scale: the complete image and its mirror image."""
    for scale in scales:
        yield from _with_mirror(scaled(image, scale))


def googlenet_crops(image: np.ndarray, size: Sides, scales: Sequence[int]) -> Views:
    """Yield 36 views per scale: corners, center and all of each of three squares, and their mirror images."""
    for scale in scales:
        for square in _squares(scaled(image, scale)):
            for crop in (*_corners_and_center(square, size), _covering(square, size)):
                yield from _with_mirror(crop)


def _covering(image: np.ndarray, size: Sides) -> np.ndarray:
    """Scale an image to cover `size`, and crop it at the center."""
    return np.asarray(ImageOps.fit(Image.fromarray(image), size[::-1], Image.Resampling.BILINEAR))


def scaled(image: np.ndarray, shorter: int) -> np.ndarray:
    """Scale an image to a shorter side of `shorter` pixels, bilinearly; shrinking averages. The aspect is kept."""
    height, width = image.shape[:2]
    factor = shorter / min(height, width)
    size = round(width * factor), round(height * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _squares(image: np.ndarray) -> list[np.ndarray]:
    """The left, central and right square of a wide image; the top, central and bottom square of a tall one."""
    side = min(image.shape[:2])
    down, right = image.shape[0] - side, image.shape[1] - side  # one of them is 0
    places = (0, 0), (down // 2, right // 2), (down, right)
    return [image[y : y + side, x : x + side] for y, x in places]


def _corners_and_center(square: np.ndarray, size: Sides) -> list[np.ndarray]:
    below, right = len(square) - size[0], len(square) - size[1]
    places = (0, 0), (0, right), (below, 0), (below, right), (below // 2, right // 2)
    return [square[y : y + size[0], x : x + size[1]] for y, x in places]


def _with_mirror(view: np.ndarray) -> Views:
    yield view
    yield view[:, ::-1]


class Protocol(NamedTuple):
    """A function that cuts views, and its scales for a network of 224 pixels."""

    views: Callable[[np.ndarray, Sides, Sequence[int]], Views]
    scales: tuple[int, ...]


PROTOCOLS = {
    "whole": Protocol(whole_image, ()),
    "center": Protocol(center, (256,)),
    "10crop": Protocol(ten_crops, (256,)),
    "dense": Protocol(uncropped, (256,)),  # for networks trained at one scale S, which §4.1 tests at S
    "multiscale": Protocol(uncropped, (224, 256, 288)),  # VGG, for networks trained at one scale S: S − 32, S, S + 32
    "144crop": Protocol(googlenet_crops, (256, 288, 320, 352)),
}
# Networks that were trained at random scales. VGG, from 256 to 512: §4.1 tests one scale, the middle 384, and §4.2
# three. ResNet, from 256 to 480: §3.4 averages five, and names no single scale for the network as a convolution.
_RESNET: dict[str, tuple[int, ...]] = {"multiscale": (224, 256, 384, 480, 640)}
JITTERED: dict[str, dict[str, tuple[int, ...]]] = {
    "vgg": {"dense": (384,), "multiscale": (256, 384, 512)},
    "resnet": _RESNET,
    "plain": _RESNET,
}


def scales_for(network: Network, protocol: str, scales: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the shorter sides of the views, in pixels.

    Args:
        network: The network.
        protocol: One of PROTOCOLS.
        scales: The scales; None: the paper's, in proportion to the network's input. Those of "dense" and "multiscale"
            depend on the scales at which the network's family was trained.

    Raises:
        ValueError: The protocol is unknown, it has no scales, or they are too small. Crops, and fully connected layers
            that read a map, need images as large as the network's input.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    views, default = PROTOCOLS[protocol]
    for family, scales_of in JITTERED.items():
        if network.name.startswith(family):
            default = scales_of.get(protocol, default)
    if scales is None:
        return tuple(round(scale * max(network.image_size) / 224) for scale in default)
    if views is whole_image:
        raise ValueError('the protocol "whole" has no scales; leave them out, or take "center"')
    any_size = views is uncropped and not any(_reads_map(operation) for operation in network.operations)
    least = 1 if any_size else max(network.image_size)
    scales = listed(scales)
    if not all(map(is_integer, scales)) or min(scales, default=0) < least:
        raise ValueError(
            f"scales are {', '.join(map(str, scales)) or 'none'}; {protocol} with {network.name} needs one or more "
            f"shorter sides of {least} pixels or more"
        )
    return tuple(int(scale) for scale in scales)


# The network as a convolution ----------------------------------------------------------------------------------


def _reads_map(operation) -> bool:
    """Whether an operation is a fully connected layer on a map [B,H,W,C]."""
    return operation.kind == "dense" and len(operation.input_shapes[0]) == 4


class FullyConvolutional(Trace):
    """A trace of images of any size, in which fully connected layers are convolutions.

    The filters of the first one are as large as its input map at the network's own size; the later ones are 1×1.

    Source: Simonyan & Zisserman 2015, section 3.2.
    """

    def __init__(self, network: Network, *variables_and_images, **options):
        super().__init__(*variables_and_images, **options)
        self._windows = {o.name: o.input_shapes[0][1:-1] or (1, 1) for o in network.operations if o.kind == "dense"}

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        """Return the variable without a check: a layer requests the shape for this larger map."""
        return tf.cast(self._variables[path], dtype or self.dtype)

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if kind == "dense" and len(inputs[0].shape) == 4:
            kernel = partial(_dense_as_convolution, window=self._windows[name])
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


def _dense_as_convolution(x, weights, bias=None, *, window):
    """[B,H,W,C], [h·w·C,units], [units] → [B,H−h+1,W−w+1,units] for a window (h, w)."""
    filters = tf.reshape(tf.cast(weights, x.dtype), (*window, x.shape[-1], weights.shape[-1]))
    y = kernels.conv2d(x, filters, padding="VALID")
    return y if bias is None else y + bias


def score_map(network: Network, images: tf.Tensor) -> tf.Tensor:
    """Return the logits of images [B,H,W,3] in [0,1]: [B,h,w,classes]; [B,classes] if the network averages its map."""
    return network.trace(network.variables, images, trace_type=partial(FullyConvolutional, network)).logits


def class_scores(network: Network, images: tf.Tensor) -> tf.Tensor:
    """Return the logits of images [B,H,W,3] in [0,1] of any size: [B,classes], averaged over the score map (§3.2)."""
    if tuple(images.shape[1:3]) == network.image_size:
        return network(images)
    scores = score_map(network, images)
    return tf.reduce_mean(scores, axis=(1, 2)) if len(scores.shape) == 4 else scores


# Averages ------------------------------------------------------------------------------------------------------


def log_probabilities(
    network: Network,
    data: DataSet,
    split: str = "test",
    *,
    protocol: str = "whole",
    scales: Sequence[int] | None = None,
    batch: int = 256,
    compile: str = "auto",
) -> Iterator[np.ndarray]:
    """Yield, for each image in order, the logarithm of its mean softmax over the views: float64 [classes].

    With compile="auto", uncropped views of files run eagerly, two at a time: photographs have hundreds of shapes, each
    of which would need a trace of its own. The batch is small because an eager forward pass keeps its activations.

    Args:
        network: The network.
        data: The data set.
        split: One of the data set's splits.
        protocol: One of PROTOCOLS.
        scales: Shorter sides in pixels; None: the paper's.
        batch: The number of views of one shape that run at a time.
        compile: How the step runs: one of `rawcnn.nn.execution.MODES`.

    Raises:
        ValueError: As `scales_for`, or an image cannot be read.
    """
    cut_views, _ = PROTOCOLS[protocol]
    sides = scales_for(network, protocol, scales)
    if cut_views is uncropped and compile == "auto" and not data.is_uniform(split):
        batch, compile = 2, "eager"

    def log_softmax(views):
        logits = class_scores(network, tf.cast(views, tf.float32) / data.white)
        return kernels.log_softmax(tf.cast(logits, tf.float64))  # float64 keeps unequal logits unequal

    step = compiled(log_softmax, choose(compile, network.devices, network.precision))

    def results() -> Iterator[tuple[int, np.ndarray]]:  # (number of the image, log softmax [classes]) of each view
        images = enumerate(data.originals(split))
        views = ((number, view) for number, image in images for view in cut_views(image, network.image_size, sides))
        for _, same_shape in groupby(views, key=lambda pair: pair[1].shape):
            while chunk := [*islice(same_shape, batch)]:
                numbers, stack = zip(*chunk, strict=True)
                yield from zip(numbers, step(np.stack(stack)).numpy(), strict=True)

    for _, of_one_image in groupby(results(), key=itemgetter(0)):
        yield _log_mean([result for _, result in of_one_image])


def _log_mean(logarithms: Sequence[np.ndarray]) -> np.ndarray:
    """log of the mean of exp(·), which keeps the order of probabilities too small for a float: k × [C] → [C]."""
    return tf.reduce_logsumexp(logarithms, axis=0).numpy() - log(len(logarithms))


def evaluate_views(
    networks: Sequence[Network],
    data: DataSet,
    split: str = "test",
    *,
    protocol: str = "whole",
    scales: Sequence[int] | None = None,
    batch: int = 256,
    compile: str = "auto",
    force: bool = False,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a network or an ensemble: softmax averaged over views and networks. The loss is −log of that mean.

    Args:
        networks: The network, or the members of an ensemble. Each cuts views of its own size.
        data: The data set.
        split: One of the data set's splits.
        protocol: One of PROTOCOLS.
        scales: Shorter sides in pixels; None: the paper's.
        batch: The number of views of one shape that run at a time.
        compile: How the step runs: one of `rawcnn.nn.execution.MODES`.
        force: Compare classes by number even if their names differ.
        journal: Receives each image. Images that it already has are not evaluated again.
        progress: Called as progress(done, total) after each image.

    Raises:
        ValueError: The protocol is unknown, the scales are too small, or the classes of the networks differ from those
            of the data set, in number or names, or from each other.
    """
    if not networks:
        raise ValueError("there is no network to evaluate; expected one or more")
    if len({network.labels for network in networks if network.labels}) > 1:
        raise ValueError("the networks name their classes differently, or in another order; expected one list of names")
    for network in networks:
        data = match_classes(network, data, force=force)
        scales_for(network, protocol, scales)
    total, rows = data.count(split), list(journal.rows) if journal else []
    rest = data.only(split, range(len(rows), total)) if rows else data
    classify = partial(log_probabilities, protocol=protocol, scales=scales, batch=batch, compile=compile)
    members = [classify(network, rest, split) for network in networks]
    for label, *results in zip(rest.splits[split].labels, *members, strict=True):
        result = _log_mean(results)  # [classes]
        rank = int(ranks(result[None], label[None])[0])
        counts = {"right": int(rank < 1), "right5": int(rank < 5), "loss": finite(-float(result[label]))}
        rows.append({"predictions": [int(np.argmax(result))], "labels": [int(label)], **counts})
        if journal:
            journal.add(rows[-1])
        if progress:
            progress(len(rows), total)
    return joined(rows)
