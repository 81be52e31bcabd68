"""DeepFool and the smallest ε: closed forms on linear models, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import bim, deepfool, fgsm, mi_fgsm, pgd, smallest
from rawcnn.attacks.active_set import advance
from rawcnn.attacks.nearest_boundary import REACH, nearest_boundary
from tests import references
from tests.rawcnn.attacked import SHAPE, WEIGHTS, Linear, middling


def boundary(images, labels, norm):
    """(distance to the nearest boundary of the linear model [B], the way there [B,60]), in float64."""
    x, w = images.reshape(len(images), -1).astype(np.float64), WEIGHTS.numpy().astype(np.float64)
    ways, distances = [], []
    for image, label in zip(x, labels, strict=True):
        best = np.inf
        for k in set(range(3)) - {label}:
            behind, slope = image @ (w[:, k] - w[:, label]), w[:, k] - w[:, label]
            far = abs(behind) / (np.linalg.norm(slope) if norm == "l2" else np.abs(slope).sum())
            if far < best:
                best, way = far, slope / np.linalg.norm(slope) if norm == "l2" else np.sign(slope)
        ways.append(way), distances.append(best)
    return np.array(distances), np.array(ways)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_model_is_fooled_in_one_step_to_the_hyperplane(norm):
    images, _ = middling(6)
    labels = np.argmax(Linear()(images), 1)
    result = deepfool(Linear(), images, labels, norm=norm)
    distance, way = boundary(images, labels, norm)
    np.testing.assert_array_equal(result.iterations, np.ones(6))
    assert result.success.all()
    expected = 1.02 * (distance + REACH)[:, None] * way
    np.testing.assert_allclose(result.noise.reshape(6, -1), expected, atol=2e-6)


def test_a_hand_made_choice_of_boundary():
    behind = tf.constant([[-3.0, -1.0, -2.0]])
    slopes = tf.reshape(tf.constant([[3.0, 4.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 8.0]]), (1, 3, 1, 1, 3))
    way = nearest_boundary(behind, slopes, "l2").numpy().ravel()  # distances 3/5, 10 and 1/4
    np.testing.assert_allclose(way, [0, 0, 0.25 + REACH], rtol=1e-6)
    nowhere = nearest_boundary(behind, tf.zeros((1, 3, 1, 1, 3)), "linf")
    np.testing.assert_array_equal(nowhere, tf.zeros((1, 1, 1, 3)))


def test_the_overshoot_enlarges_every_step_as_in_the_authors_code():
    """At most three linearizations of a curved boundary, by hand. One overshoot at the end gives another image."""
    image, overshoot = np.full((1, 1, 1, 3), 0.2, np.float32), 0.05

    def value(x):  # f' of the second class, which the network predicts if f' > 0
        return 0.5 - (1 - x[..., 0]) ** 2 + 0.1 * x[..., 1]

    def network(x):
        f = value(tf.reshape(x, (-1, 3)))
        return tf.stack([tf.zeros_like(f), f], axis=1)

    def written(in_every_step):
        x = image.astype(np.float64).ravel()
        total = np.zeros(3)
        for _ in range(3):
            w = np.array([2 - 2 * x[0], 0.1, 0])
            total += (abs(value(x)) / np.linalg.norm(w) + REACH) * w / np.linalg.norm(w)
            x = np.clip(image.ravel() + (1 + in_every_step * overshoot) * total, 0, 1)
            if value(x) > 0:
                break
        return np.clip(image.ravel() + (1 + overshoot) * total, 0, 1)

    result = deepfool(network, image, [0], overshoot=overshoot, steps=3, compile="eager")
    np.testing.assert_allclose(result.images.ravel(), written(True), atol=1e-5)
    assert np.max(np.abs(written(False) - written(True))) > 1e-3 and result.iterations[0] > 1


@pytest.mark.deeper
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_eager_graph_and_xla_agree(trained, norm):
    network, images, labels = trained
    eager, graph, xla = (deepfool(network, images[:12], labels[:12], norm=norm, compile=m) for m in MODES)
    for other in (graph, xla):
        references.close(other.images, eager.images, "network", wobble=2e-3)
        np.testing.assert_array_equal(other.predictions, eager.predictions)


MODES = ("eager", "graph", "xla")


def test_what_deepfool_promises(trained):
    network, images, labels = trained
    result = deepfool(network, images, labels)
    wrong = result.already_wrong
    np.testing.assert_array_equal(result.images[wrong], images[wrong])
    assert not result.iterations[wrong].any() and result.success.all()
    assert result.images.min() >= 0 and result.images.max() <= 1
    alone = deepfool(network, images[3:4], labels[3:4])
    np.testing.assert_allclose(alone.images[0], result.images[3], atol=1e-5)
    short = deepfool(network, images, labels, steps=2)
    done = short.iterations < 2
    np.testing.assert_array_equal(short.images[done], result.images[done])  # fooled images stay bit for bit


def test_slopes_in_bfloat16_lead_as_near(trained):
    network, images, labels = trained
    wide, narrow = (deepfool(network, images, labels, precision=p) for p in ("float32", "bfloat16"))
    assert narrow.success.all()
    assert np.mean(narrow.columns()["l2"]) == pytest.approx(np.mean(wide.columns()["l2"]), rel=0.02)
    with pytest.raises(ValueError, match="precision is 'half'; expected one of float32, bfloat16"):
        deepfool(network, images, labels, precision="half")


def test_deepfool_goes_less_far_than_fgsm(trained):
    network, images, labels = trained
    epsilon, found = smallest(network, images, labels)
    near, ok = deepfool(network, images, labels), ~found.already_wrong & np.isfinite(epsilon)
    assert np.mean(found.columns()["l2"][ok]) > 1.3 * np.mean(near.columns()["l2"][ok])


def test_bad_input():
    images, labels = middling(2)
    for wrong, message in (
        ({"norm": "l1"}, "linf, l2"),
        ({"candidates": 1}, "candidates is 1"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(ValueError, match=message):
            deepfool(Linear(), images, labels, **wrong)


# The smallest ε --------------------------------------------------------------------------------------------


def test_the_smallest_epsilon_of_a_linear_model_is_the_margin_over_the_l1_norm():
    images, _ = middling(8)
    network = Linear(WEIGHTS[:, :2])
    labels = np.argmax(network(images), 1)
    across = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).numpy().astype(np.float64)
    margin = np.abs(images.reshape(8, -1) @ across)
    told = []
    epsilon, result = smallest(network, images, labels, tolerance=1e-4, progress=lambda *done: told.append(done))
    np.testing.assert_allclose(epsilon, margin / np.abs(across).sum(), atol=1.01e-4)
    assert result.success.all() and told[-1][0] == told[-1][1]


def test_an_epsilon_that_fools_and_one_a_little_smaller_that_does_not(trained):
    network, images, labels = trained
    epsilon, result = smallest(network, images, labels, largest=0.2)
    ok = np.isfinite(epsilon) & (epsilon > 0)
    assert ok.sum() > 30 and np.all(result.success[ok]) and not result.success[np.isinf(epsilon)].any()
    np.testing.assert_array_equal(epsilon == 0, result.already_wrong)
    below = fgsm(network, images, labels, epsilon=np.where(ok, epsilon - 1 / 2550, 0))
    assert np.mean(below.success[ok]) < 0.15  # but for what rounds
    by_pgd, _ = smallest(network, images, labels, attack=pgd, largest=0.2, step=lambda e: e / 4)
    assert np.mean(by_pgd[ok] <= epsilon[ok] + 2 / 2550) > 0.9


# Others of the family --------------------------------------------------------------------------------------


def test_bim_takes_kurakins_steps(trained):
    network, images, labels = trained
    for epsilon, steps in ((4 / 255, 5), (8 / 255, 10), (16 / 255, 20)):
        written = pgd(network, images, labels, epsilon=epsilon, step=1 / 255, steps=steps, random_start=False)
        np.testing.assert_array_equal(bim(network, images, labels, epsilon=epsilon).images, written.images)


def test_momentum_by_hand():
    """On a nonlinear model, sign(Σ g/‖g‖₁) of the steps before, written out with a tape for each."""
    images, _ = middling(4)

    def bent(x):
        return tf.sin(9 * tf.reshape(x, (-1, 60))) @ WEIGHTS + tf.constant([50.0, 0, 0])  # never fooled

    x, velocity = tf.constant(images), 0.0
    for _ in range(5):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits([0] * 4, bent(x)))
        gradient = tape.gradient(loss, x)
        velocity = velocity + gradient / tf.reduce_sum(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        x = tf.clip_by_value(x + 0.02 * tf.sign(velocity), images - 0.1, images + 0.1)
    result = mi_fgsm(bent, images, [0] * 4, epsilon=0.1, steps=5)
    assert np.mean(np.abs(result.images - x) > 1e-6) < 0.01
    other = pgd(bent, images, [0] * 4, epsilon=0.1, steps=5, step=0.02, random_start=False)
    assert np.mean(np.abs(other.images - x) > 1e-6) > 0.05


def test_an_epsilon_for_each_image(trained):
    network, images, labels = trained
    epsilons = np.linspace(0, 0.2, 8).astype(np.float32)
    for attack in (fgsm, pgd):
        together = attack(network, images[:8], labels[:8], epsilon=epsilons)
        for i in (0, 3, 7):
            first = {"first": i} if attack is pgd else {}
            alone = attack(network, images[i : i + 1], labels[i : i + 1], epsilon=float(epsilons[i]), **first)
            np.testing.assert_allclose(alone.images[0], together.images[i], atol=1e-6)
    with pytest.raises(ValueError, match="one for each of 8 images"):
        fgsm(network, images[:8], labels[:8], epsilon=[0.1, 0.2])


def test_bfloat16_fools_no_fewer(trained):
    network, images, labels = trained
    for epsilon in (0.03, 0.06, 0.1):
        wide, narrow = (
            pgd(network, images, labels, epsilon=epsilon, step=epsilon / 4, precision=p)
            for p in ("float32", "bfloat16")
        )
        assert np.all(narrow.success[wide.success])
    with pytest.raises(ValueError, match="precision is 'float16'; expected one of float32, bfloat16"):
        pgd(network, images, labels, precision="float16")


PATTERNS = {  # which of eleven images are finished
    "none": [],
    "the first": range(10),
    "the last": range(1, 11),
    "every other": range(0, 11, 2),
    "all but one in the middle": [0, 1, 2, 3, 4, 6, 7, 8, 9, 10],
    "three": [2, 3, 9],
}


@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_only_the_unfinished_advance(gather, pattern):
    """Rows keep their places, their state and their own inputs; finished rows keep every bit, a NaN included."""
    done = np.isin(np.arange(11), PATTERNS[pattern])
    x, factor = references.random((11, 2)).numpy(), np.arange(1.0, 12.0, dtype=np.float32)[:, None]
    x[done, 0] = np.nan
    seen = []

    def step(x, number, factor):
        seen.append(number.numpy())
        return factor * x, number + 100

    moved, number = advance(step, tf.constant(done), (tf.constant(x), tf.range(11)), [factor], gather=gather)
    np.testing.assert_array_equal(number, np.where(done, np.arange(11), np.arange(11) + 100))
    np.testing.assert_array_equal(moved, np.where(done[:, None], x, factor * x))
    left = np.flatnonzero(~done)
    (rows,) = seen
    assert len(rows) == (-(-len(left) // 8) * 8 if gather else 11)  # padded with the first of them
    np.testing.assert_array_equal(rows, [*left, *[left[0]] * (len(rows) - len(left))] if gather else np.arange(11))


@pytest.mark.sample("eager", "graph")
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_a_loop_of_finished_images_takes_no_step(mode):
    """`advance` needs an unfinished row; the loops end before, also where all images are finished at the start."""
    network = Linear()
    images, _ = middling(3)
    wrong = (np.argmax(network(images), axis=1) + 1) % 3
    result = deepfool(network, images, wrong, compile=mode)
    np.testing.assert_array_equal(result.images, images)
    assert not result.iterations.any() and result.already_wrong.all()


def test_shape_of_the_linear_model_is_that_of_the_images():
    assert WEIGHTS.shape[0] == np.prod(SHAPE)
