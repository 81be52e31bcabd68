"""Where the papers look at a test image, and how they average what they see.

    whole        the image scaled to cover the network's input, cropped in the middle: `evaluate`'s own way
    center       the central crop of the image at a shorter side of 256
    10crop       Krizhevsky et al. 2012, §4.1: corners, centre, and their mirrors
    dense        Simonyan & Zisserman 2014, §3.2 (Sermanet et al. 2013): the network as a convolution over all of it
    multiscale   the same at several sizes: Simonyan & Zisserman 2014, §4.2; He et al. 2015, §3.4
    144crop      Szegedy et al. 2014, §7: 4 scales × 3 squares × 6 crops × 2 mirrors

A protocol is a plain function that cuts the *views* of an image. The answer is the mean of the networks' softmax over
the views; that of an ensemble, the mean over its members too. The papers' scales are shorter sides in pixels for
networks of 224: they grow with the network's input, 256 becoming 37 for 32.
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
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation, check_classes, finite, joined, ranks
from rawcnn.files.journal import Journal
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace

# Views: an image uint8 [H,W,3], the network's size, scales → arrays uint8 [h,w,3] ------------------------------

Views = Iterator[np.ndarray]


def whole(image: np.ndarray, size: int, scales: Sequence[int]) -> Views:
    """One view: scaled to cover size×size and cropped in the middle, as `data.load` does. It has no scales."""
    yield np.asarray(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BILINEAR))


def center(image: np.ndarray, size: int, scales: Sequence[int]) -> Views:
    """One view a scale: the crop in the middle.

    An image that is exactly the network's input, as CIFAR's are, is taken as it is (He et al. 2015, §4.2: "the single
    view of the original 32×32 image").
    """
    if image.shape[:2] == (size, size):
        yield image
        return
    for scale in scales:
        x = scaled(image, scale)
        top, left = (x.shape[0] - size) // 2, (x.shape[1] - size) // 2
        yield x[top : top + size, left : left + size]


def ten_crops(image: np.ndarray, size: int, scales: Sequence[int]) -> Views:
    """Ten views a scale: the corners and the centre of the central square, each with its mirror image."""
    for scale in scales:
        _, square, _ = _squares(scaled(image, scale))
        for crop in _corners_and_center(square, size):
            yield from _with_mirror(crop)


def uncropped(image: np.ndarray, size: int, scales: Sequence[int]) -> Views:
    """Two views a scale: all of the image, and its mirror image."""
    for scale in scales:
        yield from _with_mirror(scaled(image, scale))


def googlenet_crops(image: np.ndarray, size: int, scales: Sequence[int]) -> Views:
    """36 views a scale: of each of three squares the corners, the centre and the square itself, made small; mirrors."""
    for scale in scales:
        for square in _squares(scaled(image, scale)):
            for crop in (*_corners_and_center(square, size), scaled(square, size)):
                yield from _with_mirror(crop)


def scaled(image: np.ndarray, shorter: int) -> np.ndarray:
    """The image with a shorter side of `shorter` pixels, its aspect kept; bilinear, and averaging where it shrinks."""
    height, width = image.shape[:2]
    factor = shorter / min(height, width)
    size = round(width * factor), round(height * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _squares(image: np.ndarray) -> list[np.ndarray]:
    """The left, central and right square of a landscape; of a portrait the top, central and bottom one."""
    side = min(image.shape[:2])
    down, right = image.shape[0] - side, image.shape[1] - side  # one of them is 0
    places = (0, 0), (down // 2, right // 2), (down, right)
    return [image[y : y + side, x : x + side] for y, x in places]


def _corners_and_center(square: np.ndarray, size: int) -> list[np.ndarray]:
    room = len(square) - size
    places = (0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)
    return [square[y : y + size, x : x + size] for y, x in places]


def _with_mirror(view: np.ndarray) -> Views:
    yield view
    yield view[:, ::-1]


class Protocol(NamedTuple):
    """Which views, and at which scales for a network of 224 pixels."""

    views: Callable[[np.ndarray, int, Sequence[int]], Views]
    scales: tuple[int, ...]


PROTOCOLS = {
    "whole": Protocol(whole, ()),
    "center": Protocol(center, (256,)),
    "10crop": Protocol(ten_crops, (256,)),
    "dense": Protocol(uncropped, (256,)),
    "multiscale": Protocol(uncropped, (224, 256, 288)),  # VGG, of networks trained at one scale S: S − 32, S, S + 32
    "144crop": Protocol(googlenet_crops, (256, 288, 320, 352)),
}
_RESNET = (224, 256, 384, 480, 640)
JITTERED = {"vgg": (256, 384, 512), "resnet": _RESNET, "plain": _RESNET}  # trained at many scales


def scales_for(network: Network, protocol: str, scales: Sequence[int] | None = None) -> tuple[int, ...]:
    """The shorter sides in pixels: `scales`, or those of the paper in proportion to the network's input.

    "multiscale" has its network's family's. Raises ValueError for an unknown protocol and for scales that it cannot
    have: a crop, or a fully connected layer that reads a map, needs images as large as the network's input.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")
    views, own = PROTOCOLS[protocol]
    if protocol == "multiscale":
        own = next((jittered for start, jittered in JITTERED.items() if network.name.startswith(start)), own)
    if scales is None:
        return tuple(round(scale * network.input_size / 224) for scale in own)
    if views is whole:
        raise ValueError('the protocol "whole" has no scales; leave them out, or take "center"')
    pools = views is uncropped and not any(_reads_map(operation) for operation in network.operations)
    least = 1 if pools else network.input_size
    if min(scales, default=0) < least:
        raise ValueError(
            f"scales are {', '.join(map(str, scales)) or 'none'}; {protocol} with {network.name} needs one or more "
            f"shorter sides of {least} pixels or more"
        )
    return tuple(scales)


# The network as a convolution ----------------------------------------------------------------------------------


def _reads_map(operation) -> bool:
    return operation.kind == "dense" and len(operation.input_shapes[0]) == 4


class FullyConvolutional(Trace):
    """The walk over images of any size: fully connected layers are convolutions (Simonyan & Zisserman 2014, §3.2).

    The first has filters as large as the map that it reads at the network's own size, the later ones 1×1.
    """

    def __init__(self, network: Network, *variables_and_images, **options):
        super().__init__(*variables_and_images, **options)
        self._windows = {o.name: o.input_shapes[0][1:-1] or (1, 1) for o in network.operations if o.kind == "dense"}

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        """As it is: the shape that a layer asks for is that of this larger map."""
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
    """Images [B,H,W,3] in [0,1] → logits [B,h,w,classes]; [B,classes] where the network averages its last map."""
    return network.trace(network.variables, images, trace_type=partial(FullyConvolutional, network)).logits


def class_scores(network: Network, images: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] in [0,1] of any size → logits [B,classes], averaged over the score map (§3.2)."""
    if tuple(images.shape[1:3]) == (network.input_size, network.input_size):
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
    """For each image of `split` in order, log of its mean softmax over the views: float64 [classes].

    `batch` views of one shape run at a time. Uncropped views of files run eagerly, an image with its mirror at a time,
    unless `compile` says otherwise: photographs have hundreds of shapes, each of which would be traced anew, and an
    eager walk keeps its activations.
    """
    cut, _ = PROTOCOLS[protocol]
    sides = scales_for(network, protocol, scales)
    if cut is uncropped and compile == "auto" and not data.is_uniform(split):
        batch, compile = 2, "eager"

    def log_softmax(views):
        logits = class_scores(network, tf.cast(views, tf.float32) / data.white)
        return kernels.log_softmax(tf.cast(logits, tf.float64))  # in which unequal logits stay unequal

    step = compiled(log_softmax, choose(compile, network.devices, network.precision))

    def answers() -> Iterator[tuple[int, np.ndarray]]:
        images = enumerate(data.originals(split))
        views = ((number, view) for number, image in images for view in cut(image, network.input_size, sides))
        for _, alike in groupby(views, key=lambda pair: pair[1].shape):
            while some := [*islice(alike, batch)]:
                numbers, stack = zip(*some, strict=True)
                yield from zip(numbers, step(np.stack(stack)).numpy(), strict=True)

    for _, of_one_image in groupby(answers(), key=itemgetter(0)):
        yield _log_mean([answer for _, answer in of_one_image])


def _log_mean(logarithms: Sequence[np.ndarray]) -> np.ndarray:
    """log of the mean of exp(·), in which probabilities too small for a float keep their order: k × [C] → [C]."""
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
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Errors of a network, or of an ensemble: softmax averaged over views and networks. The loss is −log of that mean.

    Each member cuts views of its own size. To a `journal` each image is added; what it has already is not done again.
    Raises ValueError for an unknown protocol, scales that do not fit, and networks whose classes are not those of the
    data set or of each other.
    """
    if not networks:
        raise ValueError("there is no network to evaluate; expected one or more")
    for network in networks:
        check_classes(network, data)
        scales_for(network, protocol, scales)
    if len({network.labels for network in networks if network.labels}) > 1:
        raise ValueError("the networks name their classes differently, or in another order; expected one list of names")
    total, rows = data.count(split), list(journal.rows) if journal else []
    rest = data.only(split, range(len(rows), total)) if rows else data
    look = partial(log_probabilities, protocol=protocol, scales=scales, batch=batch, compile=compile)
    members = [look(network, rest, split) for network in networks]
    for label, *answers in zip(rest.splits[split].labels, *members, strict=True):
        answer = _log_mean(answers)  # [classes]
        place = int(ranks(answer[None], label[None])[0])
        counts = {"right": int(place < 1), "right5": int(place < 5), "loss": finite(-float(answer[label]))}
        rows.append({"predictions": [int(np.argmax(answer))], "labels": [int(label)], **counts})
        if journal:
            journal.add(rows[-1])
        if progress:
            progress(len(rows), total)
    return joined(rows)
