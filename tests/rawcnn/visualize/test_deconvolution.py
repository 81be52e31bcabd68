"""The deconvnet against one written in NumPy, against what it must be where it is simple, and on every model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.nn.layers import (
    average_pool,
    batch_norm,
    concatenate,
    conv,
    dense,
    lrn,
    max_pool,
    relu,
    residual_sum,
    squeeze_excite,
)
from rawcnn.nn.network import Network
from rawcnn.nn.trace import symbolic_trace
from rawcnn.visualize.deconvolution import METHODS, deconvolve
from rawcnn.visualize.layer_maps import operation_at_size
from tests import references
from tests.rawcnn import small

IMAGES = references.random((3, 9, 9, 3), 1, low=0.0)


def network(model, size: int = 9, seed: int = 2, **settings) -> Network:
    return Network("deconvolved", model, size=size, classes=4, seed=seed, **settings)


def pictures(net, layer, channel, position=None, images=IMAGES, **settings) -> np.ndarray:
    return deconvolve(net, images, layer, channel, position, **settings).pictures


def inside(pictures, boxes):
    """Assert that each picture has colors in its box, and none around it."""
    for picture, (top, left, bottom, right) in zip(pictures, boxes, strict=True):
        around = picture.copy()
        around[top:bottom, left:right] = 0
        assert np.isfinite(picture).all() and np.any(picture), "nothing came back"
        assert not np.any(around), f"colors outside {(top, left, bottom, right)}"


# A deconvnet in NumPy --------------------------------------------------------------------------------------


def two_layers(net, images):
    """Convolution, ReLU, pool twice; the first pool overlaps, the second convolution has a stride."""
    x = max_pool(
        net, "pool1", relu(net, conv(net, "conv1", images, 4, 3, padding="VALID")), 3, 2, padding="VALID"
    )  # [B,3,3,4]
    x = relu(net, conv(net, "conv2", x, 5, 2, stride=1, padding="VALID"))  # [B,2,2,5]
    return dense(net, "logits", x, 4)


def correlate(x, filters, bias):
    (kh, kw, _, channels), (height, width, _) = filters.shape, x.shape
    y = np.zeros((height - kh + 1, width - kw + 1, channels))
    for i, j, c in np.ndindex(y.shape):
        y[i, j, c] = np.sum(x[i : i + kh, j : j + kw] * filters[..., c]) + bias[c]
    return y


def transposed(y, filters):
    """Each number lays its filter down where the filter read."""
    kh, kw, channels, _ = filters.shape
    x = np.zeros((y.shape[0] + kh - 1, y.shape[1] + kw - 1, channels))
    for i, j, c in np.ndindex(y.shape):
        x[i : i + kh, j : j + kw] += y[i, j, c] * filters[..., c]
    return x


def pooled_with_switches(x, size, stride):
    rows, columns = ((n - size) // stride + 1 for n in x.shape[:2])
    y, switches = np.zeros((rows, columns, x.shape[2])), {}
    for i, j, c in np.ndindex(y.shape):
        window = x[i * stride : i * stride + size, j * stride : j * stride + size, c]
        row, column = np.unravel_index(np.argmax(window), window.shape)
        y[i, j, c], switches[i, j, c] = window.max(), (i * stride + row, j * stride + column, c)
    return y, switches


def by_hand(net, image, channel, position, method):
    """From the ReLU of conv2 to the pixels, seeded with the activation's value → (picture, activation)."""
    weights = {path: value.numpy().astype(np.float64) for path, value in net.variables.items()}

    def rectified_back(g, x):
        return np.where((x > 0) | (method == "deconvnet"), g if method == "gradient" else np.maximum(g, 0), 0)

    first = correlate(image.astype(np.float64), weights["conv1/filters"], weights["conv1/bias"])
    pooled, switches = pooled_with_switches(np.maximum(first, 0), 3, 2)
    second = correlate(pooled, weights["conv2/filters"], weights["conv2/bias"])
    alone = np.zeros(second.shape)
    place = (*position, channel)
    alone[place] = max(second[place], 0)
    back = transposed(rectified_back(alone, second), weights["conv2/filters"])
    unpooled = np.zeros(first.shape)
    for place, switch in switches.items():
        unpooled[switch] += back[place]
    return transposed(rectified_back(unpooled, first), weights["conv1/filters"]), alone.max()


@pytest.mark.parametrize("method", METHODS)
def test_against_a_deconvnet_in_numpy(method):
    net = network(two_layers)
    maps = net.forward(IMAGES).activations["conv2/relu"].numpy()
    for b, image in enumerate(IMAGES.numpy()):
        found = deconvolve(net, np.repeat(image[None], 5, axis=0), "conv2/relu", range(5), method=method)
        best = [np.unravel_index(np.argmax(maps[b, ..., channel]), (2, 2)) for channel in range(5)]
        np.testing.assert_array_equal(found.positions, best)
        expected = [by_hand(net, image, channel, position, method) for channel, position in enumerate(best)]
        references.close(found.activations, [activation for _, activation in expected], dtype="float32")
        references.close(found.pictures, [picture for picture, _ in expected], "gradient")
    assert (maps.max(axis=(1, 2)) > 0).sum() > 7, "dead channels compare zeros"


def test_hits_of_overlapping_windows_are_summed():
    """One bright pixel wins all four windows of 3×3 that see it, and gets the sum of what they bring."""

    def model(net, images):
        return average_pool(net, "mean", max_pool(net, "pool", images, 3, 2, padding="VALID"), 2, 1, padding="VALID")

    image = np.zeros((1, 5, 5, 3), np.float32)
    image[0, 2, 2, 1] = 1
    picture = pictures(network(model, 5), "mean", 1, images=image, seed="one")
    assert picture[0, 2, 2, 1] == 1 and picture.sum() == 1


# Where it must be simple -----------------------------------------------------------------------------------


def positive(net: Network) -> Network:
    for path, value in net.variables.items():
        if path.endswith(("filters", "weights")):
            value.assign(tf.abs(value))
    return net


@pytest.mark.parametrize("layer", ["conv1", "conv2/relu", "logits"])
def test_where_all_is_positive_the_three_are_the_gradient(layer):
    net = positive(network(two_layers))
    with tf.GradientTape() as tape:
        tape.watch(IMAGES)
        values = net.forward(IMAGES).activations[layer]
        value = values[:, 1] if layer == "logits" else values[:, 0, 1, 1]
    expected = tape.gradient(value, IMAGES)
    for method in METHODS:
        found = pictures(net, layer, 1, None if layer == "logits" else (0, 1), method=method, seed="one")
        references.close(found, expected, "gradient")


def test_the_pictures_of_a_convolution_are_its_adjoint():
    """⟨conv(x), y⟩ = ⟨x, Σ y·picture⟩, the pictures of all positions and channels seeded with one."""

    def model(net, images):
        return conv(net, "conv", images, 4, (3, 2), stride=2, bias=False)

    net = network(model, 5)
    x = references.random((1, 5, 5, 3), 4, low=0.0)
    y = references.random(net.operation("conv").output_shape, 5).numpy()[0]
    places = [*np.ndindex(y.shape)]
    repeated = np.repeat(x, len(places), axis=0)
    found = pictures(net, "conv", [c for *_, c in places], [p[:2] for p in places], images=repeated, seed="one")
    back = np.einsum("nhwc,n->hwc", found, [y[place] for place in places])
    references.close(np.sum(x.numpy()[0] * back), np.sum(net(x).numpy()[0] * y), dtype="float32")


def test_unpooling_undoes_a_pool_without_overlap():
    """What came back from every position, pooled again, is the pooled map."""
    net = network(lambda net, images: max_pool(net, "pool", images, 2, 2, padding="VALID"), 6)
    image = references.random((1, 6, 6, 3), 6, low=0.0)
    places = [*np.ndindex(3, 3, 3)]
    repeated = np.repeat(image, 27, axis=0)
    found = pictures(net, "pool", [c for *_, c in places], [p[:2] for p in places], images=repeated)
    assert np.count_nonzero(found) == 27
    np.testing.assert_array_equal(kernels.max_pool(tf.constant(found.sum(0)[None]), 2, 2), net(image))


# What a plain tape gets wrong, and what it gets right --------------------------------------------------------


def normalized(net, images, skipped=False):
    x = relu(net, conv(net, "conv1", images, 6, 3))
    x = x if skipped else lrn(net, "norm1", x, alpha=0.5)
    return relu(net, conv(net, "conv2", x, 4, 3))


def test_local_response_normalization_is_skipped():
    """Backward only: activations are those of the network; the pictures are those of one without it."""
    net, without = network(normalized), network(partial(normalized, skipped=True))
    found = deconvolve(net, IMAGES, "conv2", 2, (4, 4), seed="one")
    np.testing.assert_array_equal(found.activations, net.forward(IMAGES).activations["conv2"][:, 4, 4, 2])
    other = deconvolve(without, IMAGES, "conv2", 2, (4, 4), seed="one")
    references.close(found.pictures, other.pictures, "gradient")
    assert not np.allclose(found.activations, other.activations, rtol=1e-2)
    plain = [pictures(n, "conv2", 2, (4, 4), method="gradient") for n in (net, without)]
    assert references.error(*plain) > 0.05, "the gradient goes through the normalization"


def test_gates_are_constants():
    """The channel times its gate, and no signal through the gate; a gradient has one, from the whole image."""

    def model(net, images):
        return squeeze_excite(net, "gated", conv(net, "conv", images, 4, 3), reduction=1)

    net = network(model)
    gates = net.forward(IMAGES).activations["gated/gate"].numpy()  # [B,4]
    found = pictures(net, "gated", [0, 1, 3], (4, 4), seed="one")
    ungated = pictures(net, "conv", [0, 1, 3], (4, 4), seed="one")
    references.close(found, ungated * gates[[0, 1, 2], [0, 1, 3]][:, None, None, None], "gradient")
    gradient = pictures(net, "gated", [0, 1, 3], (4, 4), method="gradient")
    assert np.count_nonzero(gradient[0, 0, 0]) == 3, "the gate sees the corner"
    itself = pictures(net, "gated/gate", 1)  # a gate that is asked for is no constant
    assert np.count_nonzero(itself[0, 0, 0]) == 3


def branching(net, images, meet):
    left = conv(net, "left", images, 3, 3)
    right = conv(net, "right", images, 3, 5)
    return relu(net, conv(net, "last", meet(net, "meeting", left, right), 4, 1, bias=False))


def test_a_sum_and_a_concatenation_copy_to_every_branch():
    """The branches are linear: what comes back through both is the sum of what comes back through each."""
    net = network(partial(branching, meet=residual_sum))
    apart = [pictures(net, branch, 1, (3, 4), seed="one") for branch in ("left", "right")]
    references.close(pictures(net, "meeting", 1, (3, 4), seed="one"), sum(apart), "gradient")

    net = network(partial(branching, meet=lambda net, name, *branches: concatenate(net, name, [*branches])))
    references.close(pictures(net, "meeting", 4, (3, 4), seed="one"), pictures(net, "right", 1, (3, 4), seed="one"))
    weights = net.variables["last/filters"].numpy()[0, 0, :, 2]  # [6]
    of_each = [pictures(net, "meeting", c, (3, 4), seed="one") for c in range(6)]
    expected = np.einsum("nbhwc,n->bhwc", of_each, weights)
    references.close(pictures(net, "last", 2, (3, 4), seed="one"), expected, "gradient")


def test_batch_norm_is_as_if_folded_into_the_convolution():
    def model(net, images):
        return conv(net, "last", relu(net, batch_norm(net, "bn", conv(net, "conv", images, 5, 3))), 4, 3)

    def folded_model(net, images):
        return conv(net, "last", relu(net, conv(net, "conv", images, 5, 3)), 4, 3)

    net, folded = network(model), network(folded_model)
    moments = {
        name: references.random((5,), i, low=0.5) for i, name in enumerate(("scale", "offset", "mean", "variance"))
    }
    for name, value in moments.items():
        net.variables[f"bn/{name}"].assign(value)
    gain = moments["scale"] / tf.sqrt(moments["variance"] + 1e-3)
    folded.variables["conv/filters"].assign(net.variables["conv/filters"] * gain)
    folded.variables["conv/bias"].assign((net.variables["conv/bias"] - moments["mean"]) * gain + moments["offset"])
    for path in ("last/filters", "last/bias"):
        folded.variables[path].assign(net.variables[path])
    one, other = (deconvolve(n, IMAGES, "last", 1) for n in (net, folded))
    references.close(one.activations, other.activations)
    references.close(one.pictures, other.pictures, "gradient")


def test_only_weights_below_the_layer_matter():
    """Adebayo et al. 2018: random weights below change the picture; those above it never reads."""
    net = network(two_layers)
    before = pictures(net, "conv2", 1, (0, 0))
    net.variables["logits/weights"].assign(references.random(net.variables["logits/weights"].shape, 8))
    np.testing.assert_array_equal(pictures(net, "conv2", 1, (0, 0)), before)
    for path in ("conv2/filters", "conv1/filters"):
        kept = net.variables[path].numpy()
        net.variables[path].assign(references.random(kept.shape, 9) * kept.std())
        assert references.error(pictures(net, "conv2", 1, (0, 0), seed="one"), before) > 0.1
        net.variables[path].assign(kept)


# Seeds, positions, sizes, modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_is_the_activation_or_one(method):
    net = network(two_layers)
    value = deconvolve(net, IMAGES, "conv2", 1, method=method)
    one = deconvolve(net, IMAGES, "conv2", 1, method=method, seed="one")
    np.testing.assert_array_equal(value.activations, one.activations)
    assert (value.activations > 0).all()  # below zero a rectifier takes another side
    references.close(value.pictures, one.pictures * value.activations[:, None, None, None], "gradient")


def test_each_image_has_its_channel_and_position():
    net = network(two_layers)
    together = deconvolve(net, IMAGES, "conv2", [3, 0, 2], [(0, 1), (1, 1), (1, 0)])
    np.testing.assert_array_equal(together.positions, [(0, 1), (1, 1), (1, 0)])
    field = net.operation("conv2").receptive_field
    for b, (channel, position) in enumerate([(3, (0, 1)), (0, (1, 1)), (2, (1, 0))]):
        alone = deconvolve(net, IMAGES[b : b + 1], "conv2", channel, position)
        references.close(together.pictures[b], alone.pictures[0], "gradient")
        top, left, bottom, right = together.boxes[b]
        assert together.boxes[b] == field.box(position, (9, 9)) == alone.boxes[0]
        np.testing.assert_array_equal(together.crops[b], together.pictures[b, top:bottom, left:right])


def test_logits_have_no_position():
    net = network(two_layers)
    found = deconvolve(net, IMAGES, "logits", 2)
    np.testing.assert_array_equal(found.positions, np.zeros((3, 2)))
    np.testing.assert_array_equal(found.activations, net(IMAGES)[:, 2])
    assert found.boxes == [net.operation("logits").receptive_field.box((0, 0), (9, 9))] * 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_is_eager(method, mode):
    def model(net, images):
        x = lrn(net, "norm", relu(net, conv(net, "conv1", images, 4, 3)))
        x = squeeze_excite(net, "gated", max_pool(net, "pool", x, 3, 2, padding="VALID"), reduction=1)
        return relu(net, conv(net, "conv2", x, 4, 3))

    net = network(model)
    eager, other = (deconvolve(net, IMAGES, "conv2", [0, 1, 3], method=method, compile=m) for m in ("eager", mode))
    references.close(other.pictures, eager.pictures, "gradient")
    np.testing.assert_array_equal(other.positions, eager.positions)


def test_pictures_are_rgb_in_the_unit_of_the_images():
    """Caffe's preprocessing turns the colors round and multiplies by 255; so does its transpose."""
    net = network(lambda net, images: conv(net, "conv", images, 2, 1), preprocessing="caffe")
    found = pictures(net, "conv", 1, (2, 2), seed="one")[0, 2, 2]
    references.close(found, 255 * net.variables["conv/filters"].numpy()[0, 0, ::-1, 1], dtype="float32")


def test_a_network_in_bfloat16():
    wide, narrow = (small.network(seed=1, precision=precision) for precision in ("float32", "bfloat16"))
    images = IMAGES[:, :8, :8]
    found, expected = (deconvolve(net, images, "conv2", 3, (1, 2), seed="one") for net in (narrow, wide))
    assert found.pictures.dtype == np.float32
    references.close(found.pictures, expected.pictures, "gradient", dtype="bfloat16", wobble=0.1)  # a switch or two


@pytest.mark.parametrize("size", [(7, 12), (3, 5)])
def test_images_of_another_size(size):
    """The boxes are those of the size; what comes after the layer, here a pool that does not fit, is not walked."""

    def model(net, images):
        x = relu(net, conv(net, "conv2", relu(net, conv(net, "conv1", images, 4, 3, stride=2)), 4, 3))
        return dense(net, "logits", max_pool(net, "pool", x, 4, 4, padding="VALID"), 4)

    net = network(model, 16)
    images = references.random((2, *size, 3), 7, low=0.0)
    found = deconvolve(net, images, "conv2", 1, (0, 2))
    operation = operation_at_size(net, "conv2", size)
    field = operation.receptive_field
    assert operation.output_shape == (1, -(-size[0] // 2), -(-size[1] // 2), 4)
    assert found.boxes == [field.box((0, 2), size)] * 2
    assert field != net.operation("conv2").receptive_field, "padding depends on the size"
    inside(found.pictures, found.boxes)
    with pytest.raises(ValueError, match="pool on"):
        operation_at_size(net, "pool", (3, 5))


def test_alexnets_convolutions_take_other_sizes_than_its_classifier():
    net = rawcnn.create("alexnet", classes=5, size=67)
    images = references.random((1, 50, 71, 3), 7, low=0.0)  # too small for its last pool
    found = deconvolve(net, images, "conv3", 7)
    field = operation_at_size(net, "conv3", (50, 71)).receptive_field
    assert found.boxes == [field.box(tuple(found.positions[0]), (50, 71))]
    inside(found.pictures, found.boxes)


# Bad input -------------------------------------------------------------------------------------------------

WRONG = {
    "method is 'deconv'; expected one of deconvnet, guided, gradient": {"method": "deconv"},
    "seed is 2; expected one of activation, one": {"seed": 2},
    "no layer 'conv3'; names near it are .*conv2": {"layer": "conv3"},
    r"channels are \[5\]; conv2 has channels 0 to 4": {"channel": 5},
    "there are 2 channels for 3 images": {"channel": [0, 1]},
    "the map of conv2 is 2×2: .*rows 0 to 1 and columns 0 to 1": {"position": (0, 2)},
    r"position is \(-1, 0\)": {"position": (-1, 0)},
    "there are 2 positions for 3 images; expected one, or one for each image": {"position": [(0, 1), (0, 0)]},
    r"expected \(row, column\)": {"position": (0.5, 1.0)},
    "logits has no map": {"layer": "logits", "channel": 1, "position": (0, 0)},
    r"expected a batch \[B,H,W,3\]": {"images": np.zeros((9, 9, 3), np.float32)},
    "images have values from 0 to 255": {"images": np.linspace(0, 255, 243, dtype=np.float32).reshape(1, 9, 9, 3)},
    "images have values that are not finite, 243 of 243": {"images": np.full((1, 9, 9, 3), np.nan, np.float32)},
    "compile is 'fast'": {"compile": "fast"},
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message):
    given = {"images": IMAGES, "layer": "conv2", "channel": 0, **WRONG[message]}
    with pytest.raises(ValueError, match=message):
        deconvolve(network(two_layers), **given)


def test_a_drawing_that_ends_with_a_layer():
    """Network.operations's entries up to the layer, the layer among them."""
    net = network(two_layers)
    operations = symbolic_trace(net.model, (1, 9, 9, 3), layers=["conv2", "pool1"]).operations
    assert [operation.name for operation in operations] == ["conv1", "conv1/relu", "pool1", "conv2"]
    assert [operation.receptive_field for operation in operations] == [
        operation.receptive_field for operation in net.operations[:4]
    ]
