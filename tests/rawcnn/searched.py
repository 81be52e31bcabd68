"""A small network, and the exhaustive search for the top inputs of its units in NumPy."""

from __future__ import annotations

import numpy as np

from rawcnn.nn.layers import batch_norm, conv, dense, max_pool, relu
from rawcnn.nn.network import Network


def two_layers(net, images):
    x = max_pool(
        net,
        "pool1",
        relu(net, batch_norm(net, "bn1", conv(net, "conv1", images, 6, 3), epsilon=1e-5)),
        2,
        2,
        padding="VALID",
    )
    x = relu(net, conv(net, "conv2", x, 4, 3, padding=((1, 1), (0, 1))))
    return dense(net, "logits", x, 10)


def network():
    """The model above."""
    return Network("two", two_layers, size=8, classes=10, preprocessing="torch")


def activations(network, images, layer):
    """Return the activations [N,h,w,C]; a vector becomes a map of one position."""
    maps = network.forward(images).activations[layer].numpy()
    return maps if maps.ndim == 4 else maps[:, None, None]


def best_places(maps, sign=1):
    """Maps [N,h,w] → [(activation, index, (row, column))]: per image the position of the largest sign·activation."""
    return [
        (values[place], index, place)
        for index, values in enumerate(maps)
        for _, place in [min((-sign * values[place], place) for place in np.ndindex(values.shape))]
    ]


def brute_force(maps, count, sign=1):
    """Return the `count` best of `best_places`, by sorting all of them."""
    return sorted(best_places(maps, sign), key=lambda found: (-sign * found[0], found[1]))[:count]


def same(found, expected, position=None):
    """Assert that the TopInputs `found` equal `expected`; `position` replaces that of a map of one position."""
    assert [(t.index, t.position) for t in found] == [(index, position or place) for _, index, place in expected]
    np.testing.assert_allclose([t.activation for t in found], [value for value, _, _ in expected], rtol=1e-5, atol=1e-6)
