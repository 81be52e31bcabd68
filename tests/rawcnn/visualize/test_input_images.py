"""Every function that takes images refuses those that are not finite, not in [0,1] or not there, in a sentence."""

from __future__ import annotations

import numpy as np
import pytest

import rawcnn.visualize as V
from rawcnn.nn.network import Network
from rawcnn.visualize.input_images import one_image, unit_images
from tests import references
from tests.rawcnn.searched import two_layers

IMAGES = references.random((2, 8, 6, 3), 1, low=0.0).numpy()
BATCHES = {
    "input gradient": lambda n, x: V.input_gradient(n, x),
    "smooth gradient": lambda n, x: V.smooth_gradient(n, x, samples=2),
    "integrated gradients": lambda n, x: V.integrated_gradients(n, x, steps=2),
    "a baseline": lambda n, x: V.integrated_gradients(n, np.zeros_like(x), steps=2, baseline=x),
    "deconvolve": lambda n, x: V.deconvolve(n, x, "conv2", 1),
}
SINGLE = {
    "attribution": lambda n, x: V.attribution(n, x, "conv2"),
    "semantic dictionary": lambda n, x: V.interpretability.semantic_dictionary(n, x, "conv2", top=2),
    "building blocks": lambda n, x: V.building_blocks(n, x, "conv2", top=2, steps=2),
    "neuron groups": lambda n, x: V.neuron_groups(n, x, "conv2"),
    "activation grid": lambda n, x: V.activation_grid(n, x, "conv2"),
}
FUNCTIONS = BATCHES | {name: lambda n, x, call=call: call(n, x[0]) for name, call in SINGLE.items()}
LARGEST = IMAGES.max(axis=(1, 2, 3), keepdims=True) == IMAGES  # one pixel of each image
NOT_IN_RANGE = {
    "bytes as floats": (
        IMAGES * 255,
        r"have values from 0 to 25\d.*; expected numbers in \[0,1\]: divide bytes by 255",
    ),
    "one pixel below": (np.where(IMAGES.min(axis=(1, 2, 3), keepdims=True) == IMAGES, -0.01, IMAGES), "from -0.01 to"),
    "one pixel above": (
        np.where(IMAGES.max(axis=(1, 2, 3), keepdims=True) == IMAGES, 1.01, IMAGES),
        "to 1.01; expected",
    ),
    "nan": (
        IMAGES * np.where(IMAGES.max(axis=(1, 2, 3), keepdims=True) == IMAGES, np.nan, 1),
        "values that are not fin",
    ),
    "infinity": (IMAGES * np.inf, "values that are not finite"),
    "centered": (IMAGES * 2 - 1, "have values from -0.9"),
}


@pytest.fixture(scope="module")
def network():
    return Network("two layers", two_layers, size=(8, 6), classes=10)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", NOT_IN_RANGE)
def test_images_out_of_range_are_refused(network, function, kind):
    images, message = NOT_IN_RANGE[kind]
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[function](network, images)


@pytest.mark.parametrize("baseline", [np.nan, np.inf, -0.5, 2.0, [np.nan, 0, 0], 128])
def test_baselines_out_of_range_are_refused(network, baseline):
    with pytest.raises(ValueError, match=r"the baseline's pixels have .*; expected numbers in \[0,1\]"):
        V.integrated_gradients(network, IMAGES, steps=2, baseline=baseline)


@pytest.mark.parametrize("function", BATCHES)
def test_an_empty_batch_is_refused(network, function):
    with pytest.raises(ValueError, match="there are no images; expected one or more"):
        FUNCTIONS[function](network, IMAGES[:0])


def test_rounding_is_no_fault():
    """Resampling in float32 leaves [0,1] by a few units in the last place."""
    assert unit_images(IMAGES * 0 + np.float32(1 + 1.2e-7)).shape == IMAGES.shape
    assert one_image(IMAGES[0] * 0 - np.float32(1e-7)).shape == (1, 8, 6, 3)
    with pytest.raises(ValueError, match=r"from 0 to 1\.0001"):
        unit_images(IMAGES * 0 + np.float32(1.0001))


@pytest.mark.parametrize("values", [[[np.nan, 1.0]], [[np.inf, 0.0]]])
def test_pictures_refuse_values_that_are_not_finite(values):
    for draw in (V.normalize, V.picture, V.diverging, lambda x: V.enlarge(x, 2), lambda x: V.grid([x])):
        with pytest.raises(ValueError, match="not finite"):
            draw(np.array(values))
