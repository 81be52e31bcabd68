"""Attacks against foolbox's, which follow the same papers: as many images fooled, by changes no larger."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from benchmarks.races.attacks import right_images
from benchmarks.races.visualize_peers import installed
from rawcnn.attacks import bim, deepfool, fgsm, pgd
from rawcnn.attacks.problem import predict

pytestmark = [
    pytest.mark.skipif(not installed("foolbox"), reason="needs foolbox: pip install '.[test]'"),
    pytest.mark.sample("digits"),
]

EPSILONS = (1 / 255, 4 / 255, 8 / 255, 16 / 255)
STEPS = 10


@pytest.fixture(scope="session")
def cifar(data_folder, cifar10_folder):
    """A published network, and 32 test images that it gets right."""
    from rawcnn.data import load

    network = rawcnn.create("cifar_resnet20")
    rawcnn.load_weights(network, data_folder / "cifar-resnet20-torch.safetensors")
    return network, *right_images(network, 32, *load(f"folder:{cifar10_folder}").arrays("test"))


@pytest.fixture(params=["digits", "cifar"])
def task(request):
    """(network, images [B,H,W,3], labels int32 [B])."""
    network, images, labels = request.getfixturevalue("trained" if request.param == "digits" else "cifar")
    return network, np.asarray(images, np.float32), np.asarray(labels, np.int32)


def by_foolbox(task, attack, epsilon=None) -> np.ndarray:
    """The images of one of foolbox's attacks. `attack` is its class's name and its settings."""
    from benchmarks.races.attack_peers import foolbox

    network, images, labels = task
    name, settings = attack
    library = foolbox()
    tf.random.set_seed(0)
    model = library.TensorFlowModel(lambda x: network(x), bounds=(0, 1), device="/CPU:0")
    given = tf.constant(images), tf.constant(labels, tf.int64)
    return getattr(library.attacks, name)(**settings)(model, *given, epsilons=epsilon)[1].numpy()


def success(task, images) -> np.ndarray:
    """[B] bool, by the network itself."""
    network, _, labels = task
    return predict(network, images)[0] != labels


def lengths(task, images, norm: str) -> np.ndarray:
    change = (images - task[1]).reshape(len(images), -1)
    return np.linalg.norm(change, ord=2 if norm == "l2" else np.inf, axis=1)


def test_fgsm(task):
    network, images, labels = task
    for epsilon in EPSILONS:
        mine, theirs = fgsm(network, images, labels, epsilon=epsilon).images, by_foolbox(task, ("FGSM", {}), epsilon)
        assert np.mean(np.abs(mine - theirs) > 1e-6) < 0.005  # gradients within rounding of zero
        assert success(task, mine).mean() >= success(task, theirs).mean()


@pytest.mark.sample("digits-LinfPGD")
@pytest.mark.parametrize("name", ["LinfBasicIterativeAttack", "LinfPGD"])
def test_iterated(task, name):
    """The same steps from the images themselves; ours stops when an image is fooled, foolbox does not."""
    network, images, labels = task
    for epsilon in EPSILONS:
        settings = {"steps": STEPS, "abs_stepsize": epsilon / 4, "random_start": False}
        if name == "LinfPGD":
            mine = pgd(network, images, labels, epsilon=epsilon, step=epsilon / 4, steps=STEPS, random_start=False)
        else:
            mine = bim(network, images, labels, epsilon=epsilon, step=epsilon / 4, steps=STEPS)
        theirs = by_foolbox(task, (name, settings), epsilon)
        assert mine.success.mean() >= success(task, theirs).mean()
        for norm in ("l2", "linf"):
            mine_l, theirs_l = lengths(task, mine.images, norm), lengths(task, theirs, norm)
            assert mine_l.mean() <= theirs_l.mean() * 1.001


def test_from_a_random_start(task):
    """The two draw other starts; three restarts are to hit whatever one of theirs hits."""
    network, images, labels = task
    for epsilon in EPSILONS:
        settings = {"steps": STEPS, "abs_stepsize": epsilon / 4, "random_start": True}
        mine = pgd(network, images, labels, epsilon=epsilon, step=epsilon / 4, steps=STEPS, restarts=3)
        theirs = by_foolbox(task, ("LinfPGD", settings), epsilon)
        assert mine.success.mean() >= success(task, theirs).mean()
        assert lengths(task, mine.images, "linf").max() <= epsilon + 1e-6


@pytest.mark.sample("digits-l2")
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool(task, norm):
    """Success within every distance: the share of images fooled by a change no longer than it."""
    network, images, labels = task
    mine = deepfool(network, images, labels, norm=norm)
    theirs = by_foolbox(task, ({"l2": "L2DeepFoolAttack", "linf": "LinfDeepFoolAttack"}[norm], {"steps": 50}))
    hit = success(task, theirs)
    assert mine.success.mean() >= hit.mean()
    mine_l, theirs_l = lengths(task, mine.images, norm), lengths(task, theirs, norm)
    assert mine_l.mean() <= 1.01 * theirs_l.mean() and np.median(mine_l) <= 1.01 * np.median(theirs_l)
    for distance in np.quantile(theirs_l, (0.25, 0.5, 0.75, 1.0)):
        within = np.mean(mine.success & (mine_l <= 1.01 * distance))
        assert within >= np.mean(hit & (theirs_l <= distance))
