"""Semantic dictionary, attribution and neuron groups against loops, closed forms and differences."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.nn.layers import conv, dense, global_average_pool, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace
from rawcnn.visualize.class_attribution import Attribution, attribution, ranked_channels
from rawcnn.visualize.factorization import factorize, group_effects, neuron_groups
from rawcnn.visualize.interpretability import (
    building_blocks,
    channel_icons,
    most_frequent,
    semantic_dictionary,
)
from rawcnn.visualize.optimization import optimize
from tests import references


def deep(net, images):
    x = max_pool(net, "pool1", relu(net, conv(net, "conv1", images, 6, 3)), 2, 2, padding="VALID")  # [B,4,4,6]
    x = relu(net, conv(net, "conv2", x, 8, 3))
    x = global_average_pool(net, "pool2", relu(net, conv(net, "conv3", x, 8, 3)))
    return dense(net, "logits", x, 5)


@pytest.fixture(scope="module")
def network():
    return Network("deep", deep, size=8, classes=5, seed=3)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0, 1, (8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def blocks(network, image):
    return built(network, image)


def built(network, image, **options):
    settings = {"layer": "conv2/relu", "top": 3, "groups": 2, "steps": 3, "limit": 5, "batch": 3, "compile": "eager"}
    return building_blocks(network, image, **{**settings, **options})


# Attribution -----------------------------------------------------------------------------------------------


def test_a_linear_head_is_told_exactly(trained):
    """After conv2/relu there is only the classifier: effects and bias sum to the logit."""
    network, images, _ = trained
    bias = network.variables["logits/bias"].numpy()
    assert np.abs(bias).max() > 0.01
    for image in images[:3]:
        logits = network(image[None]).numpy()[0]
        told = attribution(network, image, "conv2/relu")
        assert told.classes.tolist() == sorted(range(10), key=lambda k: -logits[k])[:2]
        references.close(told.logits, logits[told.classes])
        shares = np.exp(logits.astype(np.float64))
        references.close(told.probabilities, (shares / shares.sum())[told.classes], kind="gradient")
        assert told.spatial.shape == (2, 4, 4) and told.channels.shape == (2, 8)
        rest = told.logits - bias[told.classes]
        references.close(told.spatial.sum(axis=(1, 2)), rest, kind="gradient")
        references.close(told.channels.sum(axis=1), rest, kind="gradient")


class Scaled(Trace):
    """The walk in which the activations of one layer are multiplied by `factors`."""

    layer, factors = "", 1.0

    def _run(self, name, kernel, inputs, parameters):
        if name != self.layer:
            return super()._run(name, kernel, inputs, parameters)
        return super()._run(name, lambda *given: kernel(*given) * self.factors, inputs, parameters)


def test_attribution_is_how_the_logit_follows_a_scaled_part(network, image):
    """d logit / d s at s = 1, where a channel, or a position, is multiplied by s: a difference in float64."""
    told = attribution(network, image, "pool1", [4, 0, 1])
    variables = {path: tf.cast(value, tf.float64) for path, value in network.variables.items()}

    def logits(factors):
        walk = Scaled(variables, tf.constant(image[None], tf.float64), dtype=tf.float64)
        walk.layer, walk.factors = "pool1", tf.constant(factors)
        return network.model(walk, walk.images).numpy()[0, [4, 0, 1]]

    def slope(part):
        return (logits(1 + 1e-6 * part) - logits(1 - 1e-6 * part)) / 2e-6  # the network is linear this near

    channels = np.stack([slope(np.broadcast_to(np.eye(6)[c], (4, 4, 6))) for c in range(6)], axis=1)
    references.close(told.channels, channels, kind="gradient")
    for row, column in np.ndindex(4, 4):
        part = np.zeros((4, 4, 6))
        part[row, column] = 1
        references.close(told.spatial[:, row, column], slope(part), kind="gradient")


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_attribution_is_the_same_however_it_runs(network, image, mode):
    eager = attribution(network, image, "conv1/relu", [3, 2], compile="eager")
    other = attribution(network, image, "conv1/relu", [3, 2], compile=mode)
    references.close(other.activations, eager.activations)
    references.close(other.gradients, eager.gradients, kind="gradient")


def test_layers_without_map_and_the_head_itself(network, image):
    told = attribution(network, image, "pool2", [2])
    weights = network.variables["logits/weights"].numpy()
    references.close(told.gradients[0, 0, 0], weights[:, 2])
    assert told.spatial.shape == (1, 1, 1)
    head = attribution(network, image, "logits", [2, 4])
    assert np.array_equal(head.channels, head.logits[:, None] * np.eye(5)[[2, 4]])


def test_channels_are_ranked_for_and_against():
    effects = np.array([[0.0, 3, -1, 2, -4, 5]], np.float32)
    told = Attribution(np.array([0]), np.zeros(1), np.ones(1), np.ones((1, 1, 6)), effects[:, None, None])
    assert ranked_channels(told, 2) == [([5, 1], [4, 2])]
    assert ranked_channels(told) == [([5, 1, 3], [4, 2])]


# Dictionary ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "conv2/relu", "logits"])
def test_the_dictionary_by_brute_force(network, image, layer):
    found = semantic_dictionary(network, image, layer, top=4)
    maps = network.forward(image[None]).activations[layer].numpy()[0]
    maps = maps.reshape(*((1, 1) if maps.ndim == 1 else maps.shape[:2]), -1)
    assert found.map_shape == maps.shape[:2] and found.channels.shape == (*maps.shape[:2], 4)
    for row, column in np.ndindex(found.map_shape):
        values = maps[row, column]
        expected = sorted(range(len(values)), key=lambda c: (-values[c], c))[:4]
        assert found.channels[row, column].tolist() == expected
        references.close(found.activations[row, column], values[expected])
        box = network.operation(layer).receptive_field.box((row, column), (8, 8))
        assert tuple(found.boxes[row, column]) == box


def test_images_of_another_size_in_a_layer_that_takes_them(network):
    found = semantic_dictionary(network, np.zeros((12, 10, 3), np.float32), "pool1", top=1)
    assert found.map_shape == (6, 5) and tuple(found.boxes[5, 4]) == (9, 7, 12, 10)


def test_icons_are_of_the_most_frequent_channels(network):
    wanted = np.array([[5, 2, 2], [7, 5, 2], [1, 0, 7]])
    assert most_frequent(wanted) == [2, 5, 7, 0, 1]
    settings = {"size": 8, "steps": 2, "seed": 4, "compile": "eager"}
    icons = channel_icons(network, "conv2", wanted, limit=3, **settings)
    assert list(icons) == [2, 5, 7]
    made = optimize(network, "conv2", [2, 5, 7], **settings).images
    for icon, expected in zip(icons.values(), made, strict=True):
        assert icon.tobytes() == expected.tobytes()


# Groups ----------------------------------------------------------------------------------------------------


def planted(height: int = 6, width: int = 5):
    """(maps [h,w,3], directions [3,C]) that a factorisation has to find: each has places and channels of its own."""
    generator = np.random.default_rng(1)
    maps, directions = generator.uniform(0.2, 1, (height, width, 3)), generator.uniform(0.2, 1, (3, 12))
    owner = np.arange(height * width).reshape(height, width) % 4  # 3: shared by all
    maps[(owner[..., None] != np.arange(3)) & (owner[..., None] < 3)] = 0
    directions[(np.arange(12) % 4 != np.arange(3)[:, None]) & (np.arange(12) % 4 < 3)] = 0
    return maps, directions


def test_planted_groups_are_found():
    """Up to order and scale, which are fixed: directions of length one, the largest group first."""
    maps, directions = planted()
    found = factorize((maps @ directions).astype(np.float32), 3)
    assert found.error < 1e-3 and found.converged and not found.rectified and found.count == 3
    lengths = np.linalg.norm(directions, axis=1)
    sizes = maps.sum(axis=(0, 1)) * lengths
    order = np.argsort(-sizes)
    references.close(found.directions, (directions / lengths[:, None])[order], wobble=0.02)
    references.close(found.maps, (maps * lengths)[..., order], wobble=0.02)


def test_groups_of_a_network_are_a_factorisation(network, image):
    maps = np.maximum(network.forward(image[None]).activations["conv2"].numpy()[0], 0)
    found = neuron_groups(network, image, "conv2", 3)
    assert found.rectified and found.maps.min() >= 0 and found.directions.min() >= 0
    left = np.linalg.norm(maps - found.maps @ found.directions) / np.linalg.norm(maps)
    assert found.error == pytest.approx(left, rel=1e-4) and 0 < left < 0.7
    assert not neuron_groups(network, image, "conv2/relu", 3).rectified
    fewer = neuron_groups(network, image, "conv2", 2)
    assert fewer.error > found.error


def test_effects_of_groups_add_up_where_nothing_is_left_out():
    maps, directions = (part.astype(np.float32) for part in planted())
    gradients = np.random.default_rng(2).standard_normal((2, 6, 5, 12)).astype(np.float32)
    told = Attribution(np.array([0, 1]), np.zeros(2), np.ones(2), maps @ directions, gradients)
    groups = replace(factorize(told.activations, 3), maps=maps, directions=directions)
    effects = group_effects(groups, told)
    references.close(effects.sum(axis=1), told.channels.sum(axis=1), kind="gradient")
    expected = np.zeros((2, 3))
    for k, row, column, g in np.ndindex(2, 6, 5, 3):
        expected[k, g] += maps[row, column, g] * (gradients[k, row, column] @ directions[g])
    references.close(effects, expected, kind="gradient")


def test_a_group_that_nothing_belongs_to_is_left_out():
    one = np.outer(np.arange(1, 7.0), np.arange(1, 5.0)).reshape(3, 2, 4)  # of rank one
    found = factorize(np.maximum(one, 0), 3)
    assert found.error < 1e-2 and (found.maps.sum(axis=(0, 1)) > 0).all()
    references.close(np.linalg.norm(found.directions, axis=1), np.ones(found.count), dtype="float32")


# All together ----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(network, image, blocks):
    seen = []
    again = built(network, image, progress=lambda *done: seen.append(done)).arrays()
    for name, array in blocks.arrays().items():
        assert array.tobytes() == again[name].tobytes(), name
    assert seen == [(k, 9) for k in range(1, 10)]  # 3 steps of two batches of channels and one of groups
    other = built(network, image, seed=1).arrays()
    assert other["channel_icons"].tobytes() != again["channel_icons"].tobytes()
    assert other["spatial_attribution"].tobytes() == again["spatial_attribution"].tobytes()


def test_the_blocks_are_those_of_each_function(network, image, blocks):
    told = attribution(network, image, "conv2/relu")
    references.close(blocks.attribution.spatial, told.spatial, kind="gradient")
    dictionary = semantic_dictionary(network, image, "conv2/relu", top=3)
    assert np.array_equal(blocks.dictionary.channels, dictionary.channels)
    groups = neuron_groups(network, image, "conv2/relu", 2)
    references.close(blocks.groups.maps, groups.maps, kind="network")
    references.close(blocks.group_effects, group_effects(groups, told), kind="network")
    ranks = ranked_channels(told)
    loudest = list(dict.fromkeys(c for pair in ranks for ranked in pair for c in ranked))
    assert list(blocks.channel_icons) == sorted(loudest[:5])
    assert blocks.group_icons.shape == (2, 8, 8, 3) and blocks.channel_icons[loudest[0]].shape == (8, 8, 3)


def test_the_numbers_can_be_kept(blocks, tmp_path):
    np.savez(tmp_path / "blocks.npz", **blocks.arrays())
    kept = np.load(tmp_path / "blocks.npz")
    assert kept["channel_attribution"].shape == (2, 8) and kept["channel_icons"].shape == (5, 8, 8, 3)
    figures = json.loads(json.dumps(blocks.figures()))
    assert figures["map"] == [4, 4] and figures["channels"] == 8
    for k, row in enumerate(figures["classes"]):
        assert row["attribution"] == pytest.approx(blocks.attribution.spatial[k].sum(), rel=1e-4)
        assert all(c["effect"] > 0 for c in row["for"]) and all(c["effect"] < 0 for c in row["against"])


# Bad input -------------------------------------------------------------------------------------------------

WRONG = {
    "no layer 'convl'; names near it": lambda n, i: attribution(n, i, "convl"),
    "no layer 'x'": lambda n, i: semantic_dictionary(n, i, "x"),
    "no layer 'y'": lambda n, i: built(n, i, layer="y"),
    r"classes are \[5\]; deep has classes 0 to 4": lambda n, i: attribution(n, i, "conv1", [0, 5]),
    "one of them twice": lambda n, i: attribution(n, i, "conv1", [1, 1]),
    "classes are none": lambda n, i: attribution(n, i, "conv1", []),
    r"the image has shape \(8, 8\); expected one RGB image": lambda n, i: attribution(n, i[..., 0], "conv1"),
    r"the image has shape \(1, 8, 8, 3\)": lambda n, i: semantic_dictionary(n, i[None], "conv1"),
    "uint8; expected float RGB": lambda n, i: neuron_groups(n, (255 * i).astype(np.uint8), "conv1"),
    "not finite": lambda n, i: attribution(n, i * np.nan, "conv1"),
    r"pixels of the image have values from .* to 25\d.*; expected numbers in \[0,1\]": lambda n, i: attribution(
        n, i * 255 / i.max(), "conv1"
    ),
    "but this input needs": lambda n, i: attribution(Network("d", dense_only, size=4, classes=2), i, "y"),
    "top is 7; conv1 has 6 channels": lambda n, i: semantic_dictionary(n, i, "conv1", top=7),
    "top is 0": lambda n, i: built(n, i, top=0),
    "limit is 0; expected a whole number, 1 or more": lambda n, i: built(n, i, limit=0),
    r"\[8\]; conv2 has channels 0 to 7": lambda n, i: channel_icons(n, "conv2", [0, 8]),
    "groups is 9; conv2 has 16 positions and 8 channels": lambda n, i: neuron_groups(n, i, "conv2", 9),
    "groups is 2; pool2 has 1 positions": lambda n, i: built(n, i, layer="pool2", groups=2),
    "no positive activation": lambda n, i: factorize(-np.ones((2, 2, 3))),
    "batch is 0": lambda n, i: built(n, i, batch=0),
    "size is 0": lambda n, i: built(n, i, icon_size=0),
    "compile is 'fast'": lambda n, i: built(n, i, compile="fast"),
}


def dense_only(net, images):
    return dense(net, "y", images, 2)


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message, network, image):
    with pytest.raises(ValueError, match=message):
        WRONG[message](network, image)
