"""Numbers, sizes and indices of public functions: what counts as a whole number, and the sentence for anything else."""

from __future__ import annotations

import json
from math import inf, nan

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.data import load
from rawcnn.nn.arguments import image_size, indices, map_position, real, short_size, size_text, whole_number

WHOLE = [3, np.int64(3), np.uint8(3), np.array(3), np.array(3, np.int16), tf.constant(3)]
NOT_WHOLE = [3.0, "3", None, True, np.bool_(True), np.float32(3), np.array([3]), np.array(True), tf.constant(3.0), [3]]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers_of_all_libraries_become_ints(value):
    assert whole_number("n", value) == 3 and type(whole_number("n", value)) is int
    assert image_size(value) == (3, 3) and type(image_size(value)[0]) is int
    assert indices("channels", value, 4, "conv1") == [3]


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_everything_else_is_refused_in_a_sentence(value):
    with pytest.raises(ValueError, match=r"^n is .*; expected a whole number, 1 or more$"):
        whole_number("n", value)
    with pytest.raises(ValueError, match=r"^size is .*; expected a side in pixels, 1 or more, or a pair \(height, wid"):
        image_size((value, 3))


def test_ranges():
    assert whole_number("seed", 2**70, least=0, most=None) == 2**70
    with pytest.raises(ValueError, match=r"^batch is 0; expected a whole number, 1 or more$"):
        whole_number("batch", np.int64(0))
    with pytest.raises(ValueError, match=r"^batch is 2147483649; expected 2,147,483,648 at most$"):
        whole_number("batch", 2**31 + 1)


def test_sizes():
    assert image_size((2, np.int64(3))) == image_size([2, 3]) == image_size(np.array([2, 3])) == (2, 3)
    assert short_size((4, 4)) == 4 and short_size((4, 5)) == (4, 5)
    assert size_text(4) == "4×4" and size_text([4, 5]) == "4×5"
    for value in ((1, 2, 3), (2,), "32", {2, 3}, (0, 3), (3, -1), 0):
        with pytest.raises(ValueError, match=r"^size is .*; expected a side in pixels"):
            image_size(value)


def test_real_numbers():
    assert (
        real("rate", np.float32(0.5)) == 0.5 and real("rate", np.int64(2)) == 2.0 and real("rate", np.array(0.5)) == 0.5
    )
    assert real("weight", -2, "positive or negative", least=-inf) == -2
    for value in (nan, inf, -1, "1", None, True, np.bool_(True), np.array([1.0]), 1j):
        with pytest.raises(ValueError, match=r"^rate is .*; expected a number, 0 or more$"):
            real("rate", value)
    with pytest.raises(ValueError, match="expected a number, above 0"):
        real("rate", 0.0, "above 0", above=True)


@pytest.mark.parametrize("values", [4, -1, [0, 4], [0.5], ["1"], "1", 1.0, True, [None]])
def test_indices_out_of_range(values):
    with pytest.raises(ValueError, match=r"^channels are \[.*\]; conv1 has channels 0 to 3$"):
        indices("channels", values, 4, "conv1")


def test_no_indices():
    with pytest.raises(ValueError, match=r"^channels are none; conv1 has channels 0 to 3$"):
        indices("channels", [], 4, "conv1")


@pytest.mark.parametrize("position", [(5, 0), (0, 6), (-1, 0), (0.0, 1.0), (1,), (1, 2, 3), "12", 3, ("0", "1")])
def test_positions_outside_a_map(position):
    message = r"the map of conv1 is 5×6: expected \(row, column\), rows 0 to 4 and columns 0 to 5$"
    with pytest.raises(ValueError, match=message):
        map_position(position, (1, 5, 6, 8), "conv1")


def test_positions():
    assert map_position((np.int64(4), 5), (1, 5, 6, 8), "conv1") == (4, 5)
    with pytest.raises(ValueError, match=r"^position is \(0, 0\), but fc8 has no map"):
        map_position((0, 0), (1, 10), "fc8")


def test_numpy_numbers_reach_files():
    """NumPy's integers end as ints, which JSON and files of weights take."""
    network = rawcnn.create("cifar_resnet20", classes=np.int64(4), size=np.array([16, 8]), seed=np.uint8(2))
    assert json.loads(json.dumps(network.settings))["size"] == [16, 8]
    found = rawcnn.profile("cifar_resnet20", batch=np.int32(2), size=(np.int64(16), 8), classes=np.array(4))
    assert json.loads(found.to_json())["size"] == [16, 8] and found.batch == 2


@pytest.mark.parametrize(
    "settings", [{"size": 32.0}, {"batch": "2"}, {"batch": True}, {"classes": 10.0}, {"size": "32"}]
)
def test_profile_refuses_other_types(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name} is .*; expected a "):
        rawcnn.profile("cifar_resnet20", **settings)


@pytest.mark.parametrize("size", [8.0, True, "8", (8, 8, 8), 0])
def test_data_refuses_other_sizes(size):
    with pytest.raises(ValueError, match=r"^size is .*; expected a side in pixels"):
        load("digits", size=size)
