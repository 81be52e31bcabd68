"""Networks with the seeded values of `seeded.py` give the logits that torchvision and timm give with them.

The file of logits was computed in float64, and so are these. A layer of another kind, a pool that rounds differently,
branches in another order or two exchanged tensors of equal shape change every digit.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import rawcnn
from rawcnn.weights import load_weights
from rawcnn.zoo import published_settings
from tests import references
from tests.rawcnn.models.seeded import FILE, NETWORKS, SHOWN, seeded_images, seeded_state

PUBLISHED = json.loads(FILE.read_text())["networks"]


def test_the_file_is_complete():
    assert {name: (n["library"], n["name"], n["size"]) for name, n in PUBLISHED.items()} == NETWORKS


@pytest.mark.sample("^googlenet$")
@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_are_the_library_s(name, tmp_path):
    published = PUBLISHED[name]
    size, path = published["size"], tmp_path / "published.safetensors"
    save_file(seeded_state({key: tuple(shape) for key, shape in published["tensors"].items()}), path)
    settings = published_settings(name, path) | {"preprocessing": "none"}
    network = rawcnn.create(name, size=size, precision="float64", **settings)
    load_weights(network, path)
    logits = network(tf.constant(2 * seeded_images(size).astype(np.float64) - 1))[:, :SHOWN].numpy()
    references.close_each(logits, np.array(published["logits"]), 1e-6)
