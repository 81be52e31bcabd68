"""Attacks over many images and many ε, and the messages for wrong input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import accuracy_against_epsilon, examples_of, fgsm, pgd, sweep
from rawcnn.data import DataSet, Split
from rawcnn.nn.network import Network
from tests.rawcnn.attacked import SHAPE, Linear, learn, middling, small


@pytest.fixture(scope="module")
def trained(digits):
    """Trained for longer than others': after 40 steps, by some processors' rounding, a class is unknown."""
    network = Network("small", small, size=8, classes=10)
    learn(network, digits, 0.3, 80)
    return network, *(array[:64] for array in digits.arrays("test"))


# Many images -----------------------------------------------------------------------------------------------


def test_accuracy_falls_with_epsilon(trained):
    network, images, labels = trained
    seen = []
    curve = accuracy_against_epsilon(
        *(pgd, network, images, labels, [0, 0.05, 0.2]),
        batch=24,
        step=lambda epsilon: epsilon / 4,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [epsilon for epsilon, _ in curve] == [0, 0.05, 0.2]
    accuracies = [accuracy for _, accuracy in curve]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] > 0.8 > accuracies[2]
    assert accuracies[0] == np.mean(np.argmax(network(images), 1) == labels)
    done = [d for d, _ in seen]
    assert seen[-1] == (192, 192) and done == sorted(set(done)) and len(done) == 9


def test_sweep_equals_one_large_batch(trained, digits):
    network, images, labels = trained
    seen = []
    test = digits.splits["test"]
    few = dataclasses.replace(digits, splits={"test": Split(test.labels[:64], test.images[:64])})
    (row,) = sweep(pgd, network, few, [0.05], batch=24, restarts=2, progress=lambda *done: seen.append(done))
    whole = pgd(network, images, labels, epsilon=0.05, restarts=2).summary()
    assert row == pytest.approx({"epsilon": 0.05, **whole}, rel=1e-5)
    assert seen == [(24, 64), (48, 64), (64, 64)]
    json.dumps(row)


def test_some_images_are_drawn_from_all():
    """A data set lies class by class; the first 40 of it would all be of class 0."""
    labels = np.repeat(np.arange(3, dtype=np.int32), 50)
    images = tf.constant(np.repeat(labels[:, None] * 20, 20 * 3, axis=1).reshape(-1, *SHAPE).astype(np.uint8))
    data = DataSet("sorted", ("a", "b", "c"), SHAPE[:2], {"test": Split(labels, images)})
    asked = []

    def record(network, images, labels, *, epsilon):
        asked.append(labels)
        return fgsm(network, images, labels, epsilon=epsilon)

    for seed in (0, 0, 1):
        sweep(record, Linear(), data, [0.1], limit=40, batch=16, sample_seed=seed)
    first, again, other = (np.concatenate(asked[i : i + 3]) for i in (0, 3, 6))
    assert [len(x) for x in (first, other)] == [40, 40] and set(first) == {0, 1, 2}
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_examples_are_known_and_of_all_classes(trained, digits):
    network, *_ = trained
    images, labels = examples_of(network, digits, 10)
    assert sorted(labels) == list(range(10))
    np.testing.assert_array_equal(np.argmax(network(tf.constant(images)), axis=1), labels)


def test_the_summary_counts_who_could_be_fooled():
    network = Linear(tf.constant(np.eye(60, 3, dtype=np.float32)))  # the class is the largest of the first three pixels
    images = np.full((4, *SHAPE), 0.5, np.float32)
    images.reshape(4, -1)[[0, 1, 2, 3], [0, 1, 2, 0]] = 0.55  # classes 0, 1, 2, 0
    images[3, 0, 0, 0] = 0.9
    result = fgsm(network, images, [0, 1, 0, 0], epsilon=0.1)
    np.testing.assert_array_equal(result.already_wrong, [False, False, True, False])
    np.testing.assert_array_equal(result.success, [True, True, True, False])
    summary = result.summary()
    assert (summary["accuracy_before"], summary["accuracy_after"]) == (0.75, 0.25)
    assert (summary["attempted"], summary["success_rate"]) == (3, pytest.approx(2 / 3))
    assert summary["max_linf"] == pytest.approx(0.1) and summary["mean_l2"] == pytest.approx(0.1 * np.sqrt(3))
    toward = fgsm(network, images, [0, 1, 0, 0], epsilon=0.1, target=1)
    np.testing.assert_array_equal(toward.columns()["attempted"], [True, False, False, True])


# Bad input -------------------------------------------------------------------------------------------------

IMAGES, LABELS = middling(2)
WRONG = [
    ({"epsilon": -0.1}, "epsilon is -0.1"),
    ({"epsilon": 8}, "epsilon is 8; expected 0 to 1, .* 8/255"),
    ({"epsilon": -1, "norm": "l2"}, "epsilon is -1; expected 0 or more"),
    ({"epsilon": float("nan")}, "epsilon is nan"),
    ({"step": float("inf")}, "step is inf"),
    ({"steps": 0}, "steps is 0"),
    ({"steps": 1.5}, "steps is 1.5"),
    ({"restarts": 0}, "restarts is 0"),
    ({"seed": -1}, "seed is -1"),
    ({"seed": 2**31}, "seed is"),
    ({"norm": "l1"}, "expected one of linf, l2"),
    ({"restarts": 2, "random_start": False}, "random_start=True"),
    ({"compile": "jit"}, "compile is 'jit'"),
    ({"target": 3}, "the class 3 in target"),
    ({"target": [0, 1, 2]}, "expected 2 class numbers"),
    ({"labels": [0, 3]}, "the class 3 in labels; expected 0 to 2"),
    ({"labels": [0.0, 1.0]}, "labels float64"),
    ({"labels": [0]}, "expected 2 class numbers"),
    ({"images": IMAGES * 255}, r"expected RGB in \[0,1\]"),
    ({"images": IMAGES - np.nan}, r"expected RGB in \[0,1\]"),
    ({"images": IMAGES[0]}, "expected a batch"),
    ({"images": IMAGES[:0], "labels": []}, "empty batch"),
    ({"images": (IMAGES * 255).astype(np.uint8)}, "divide bytes by 255"),
    ({"network": lambda x: x}, r"expected logits \[B,classes\]"),
    ({"network": lambda x: tf.stop_gradient(Linear()(x))}, "no gradient"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_says_what_is_wrong(wrong, message):
    given = {"network": Linear(), "images": IMAGES, "labels": LABELS, **wrong}
    with pytest.raises(ValueError, match=message):
        pgd(given.pop("network"), given.pop("images"), given.pop("labels"), **given)


def test_bad_sweeps_say_what_is_wrong(digits):
    with pytest.raises(ValueError, match="no epsilons"):
        accuracy_against_epsilon(fgsm, Linear(), IMAGES, LABELS, [])
    with pytest.raises(ValueError, match="0 images"):
        accuracy_against_epsilon(fgsm, Linear(), IMAGES[:0], LABELS[:0], [0.1])
    with pytest.raises(ValueError, match="limit is 0"):
        sweep(fgsm, Linear(), digits, [0.1], limit=0)
