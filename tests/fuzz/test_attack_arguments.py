"""What a caller may pass to the attacks: every attack takes ε in the same forms, and refuses misuse in one sentence."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn import attacks
from rawcnn.attacks.adversarial_patch import Patch
from rawcnn.attacks.black_box import RECIPE
from rawcnn.attacks.catalogue import CATALOGUE, PlaceholderNetwork, SettingsAccepted
from rawcnn.data import DataSet
from rawcnn.data.dataset import Split
from rawcnn.nn.network import Network
from tests import references
from tests.rawcnn.attacked import WEIGHTS, Linear, middling, small

IMAGES, LABELS = middling(3)
PATCH = Patch(np.full((5, 5, 3), 0.5, np.float32), 1, np.zeros(1), {})


def smallest(*batch, **settings):
    return attacks.smallest(*batch, tolerance=0.1, largest=0.3, **settings)[1]


ATTACKS = {
    "fgsm": attacks.fgsm,
    "bim": attacks.bim,
    "mi_fgsm": partial(attacks.mi_fgsm, steps=2),
    "pgd": partial(attacks.pgd, steps=2),
    "pgd l2": partial(attacks.pgd, steps=2, norm="l2"),
    "deepfool": partial(attacks.deepfool, steps=2),
    "smallest": smallest,
    "grid": partial(attacks.spatial, angles=2, shifts=1),
    "worst": partial(attacks.spatial, method="worst", trials=2),
    "first-order": partial(attacks.spatial, method="first-order", steps=2),
    "patch": partial(attacks.patch, patch=PATCH),
}
OF_EPSILON = [name for name in ATTACKS if name not in ("deepfool", "smallest")]
TARGETED = ["fgsm", "bim", "mi_fgsm", "pgd", "grid"]


@pytest.fixture(scope="module")
def levels():
    return rawcnn.create("cifar_resnet20", size=8, classes=3, discretize="onehot", levels=4)


def refuse(call, *expected: str):
    """The call raises a ValueError of one line, which has the `expected` parts."""
    with pytest.raises(ValueError) as raised:
        call()
    message = str(raised.value)
    assert type(raised.value) is ValueError and "\n" not in message and "Traceback" not in message
    assert all(part in message for part in expected), message


# ε ---------------------------------------------------------------------------------------------------------

WRONG = [
    ("8/255", "epsilon is '8/255'; expected a number"),
    ("0.1", "epsilon is '0.1'; expected a number"),
    (None, "epsilon is None; expected a number"),
    (True, "epsilon is True; expected a number"),
    (np.True_, "expected a number"),
    ([True, 0.1, 0.1], "expected a number"),
    ([None] * 3, "expected a number"),
    (["0.1"] * 3, "expected a number"),
    ({"epsilon": 0.1}, "expected a number"),
    (0.1j, "expected a number"),
    ([[0.1], [0.1, 0.2], []], "expected a number"),
    (lambda: 0.1, "expected a number"),
    (float("nan"), "epsilon is nan"),
    (float("inf"), "epsilon is inf"),
    ([0.1, float("nan"), 0.1], "epsilon is nan"),
    (-0.1, "epsilon is -0.1"),
    ([0.1, 0.1, -0.1], "epsilon is -0.1"),
    ([0.1, 0.2], "expected one number, or one"),
    (np.full((3, 1), 0.1), "expected one number, or one"),
    ([], "expected one number, or one"),
]


@pytest.mark.parametrize("name", OF_EPSILON)
def test_a_wrong_epsilon_is_refused(name):
    for value, message in [*WRONG, *([] if name == "pgd l2" else [(1.5, "epsilon is 1.5"), ([0.1, 2, 0.1], "2")])]:
        refuse(lambda value=value: ATTACKS[name](Linear(), IMAGES, LABELS, epsilon=value, compile="eager"), message)


@pytest.mark.sample("^fgsm$", "^mi_fgsm$", "^patch$", "^worst$")
@pytest.mark.parametrize("name", OF_EPSILON)
def test_epsilon_is_a_number_or_one_per_image(name):
    attack = partial(ATTACKS[name], Linear(), IMAGES, LABELS, compile="eager")
    expected = attack(epsilon=0.125).images
    array = np.full(3, 0.125, np.float32)
    numbers = 0.125, np.float32(0.125), np.array(0.125), tf.constant(0.125), Fraction(1, 8)
    lists = [0.125] * 3, (0.125,) * 3, array, array.astype(np.float64), tf.constant(array), tf.cast(array, "bfloat16")
    for value in (*numbers, *lists):
        np.testing.assert_array_equal(attack(epsilon=value).images, expected)
    mixed = attack(epsilon=[0.125, 0, 0.125]).images
    np.testing.assert_array_equal(mixed[[0, 2]], expected[[0, 2]])
    np.testing.assert_array_equal(mixed[1], IMAGES[1])
    np.testing.assert_array_equal(attack(epsilon=0).images, IMAGES)
    np.testing.assert_array_equal(attack(epsilon=np.zeros(3, int)).images, IMAGES)


def test_epsilon_of_logit_pga_and_of_a_substitute(levels):
    images = references.random((3, 8, 8, 3), low=0.0)
    made = attacks.Substitute(Network("student", small, size=8, classes=10), 0, [], {})
    for attack in (
        partial(attacks.logit_pga, levels, steps=1),
        partial(attacks.substitute, made.network, substitute=made),
    ):
        for value, message in WRONG:
            refuse(lambda v=value, a=attack: a(images, LABELS, epsilon=v, compile="eager"), message)
        refuse(lambda a=attack: a(images, LABELS, epsilon=1.5, compile="eager"), "epsilon is 1.5")
        once, often = (attack(images, LABELS, epsilon=e, compile="eager") for e in (0.125, [0.125] * 3))
        np.testing.assert_array_equal(once.images, often.images)


# Steps that follow ε ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_default_step_of_pgd_is_a_quarter_of_epsilon(norm):
    settings = {"norm": norm, "steps": 3, "random_start": False, "early_stop": False, "compile": "eager"}
    epsilon = np.array([0.04, 0.12, 0.2])
    found = attacks.pgd(Linear(), IMAGES, LABELS, epsilon=epsilon, **settings)
    written = attacks.pgd(Linear(), IMAGES, LABELS, epsilon=epsilon, step=epsilon / 4, **settings)
    np.testing.assert_array_equal(found.images, written.images)
    np.testing.assert_allclose(found.columns()[norm], 0.75 * epsilon, rtol=1e-4)


def test_the_default_step_of_adversarial_training_is_a_quarter_of_epsilon():
    labels = tf.constant(np.argmax(Linear()(IMAGES), axis=1))
    for step in (None, 0.05):
        attacked = attacks.Adversary(0.2, step, 8)(Linear(), tf.constant(IMAGES), labels, tf.constant([0, 1]))
        np.testing.assert_allclose(np.max(np.abs(attacked - IMAGES), axis=(1, 2, 3)), 0.2, atol=1e-6)
    assert attacks.Adversary(0.2).step == 0.05 and attacks.Adversary().step == 2 / 255


def test_every_default_reaches_the_boundary_of_the_ball():
    """Without early stop, on a linear model: each iterated attack uses all of a small and of a large ε."""
    for epsilon in (0.01, 0.25):
        for attack in (attacks.bim, attacks.mi_fgsm, attacks.pgd):
            found = attack(Linear(), IMAGES, LABELS, epsilon=epsilon, early_stop=False, compile="eager")
            np.testing.assert_allclose(found.columns()["linf"], epsilon, rtol=1e-4)


# Images, labels and networks --------------------------------------------------------------------------------

BAD_LABELS = [
    (0, "labels"), (None, "labels"), ([0] * 4, "labels"), ([0.0] * 3, "labels"), (["a"] * 3, "labels"),
    ([True] * 3, "labels"), ([[1, 0, 0]] * 3, "labels"), ([[0], [1, 2], []], "labels"), ([], "labels"),
    ([0, 1, 3], "class 3 in labels"), ([0, -1, 0], "class -1 in labels"),
]  # fmt: skip
BAD_IMAGES = [
    (IMAGES[:0], "expected one image or more"),
    (IMAGES[:, :0], "expected"),
    (IMAGES[0], "shape"),
    (IMAGES[..., :2], "shape"),
    ((255 * IMAGES).astype(np.uint8), "divide bytes by 255"),
    (255 * IMAGES, "expected RGB in [0,1]"),
    (IMAGES - 1, "expected RGB in [0,1]"),
    (np.where(np.arange(3) == 1, np.nan, IMAGES), "NaN"),
    (np.where(np.arange(3) == 1, np.inf, IMAGES), "inf"),
    (np.where(np.arange(3) == 1, np.float32(1 + 1.2e-7), IMAGES), "1.2e-07 above 1"),
    (np.where(np.arange(3) == 1, np.float32(-1e-9), IMAGES), "1e-09 below 0"),
]
BAD_NETWORKS = [
    (lambda x: Linear(WEIGHTS[:, :1])(x), "has 1 class; expected 2 or more"),
    (lambda x: Linear(WEIGHTS[:, :0])(x), "has 0 class"),
    (lambda x: Linear()(x)[:, 0], "expected logits [B,classes]"),
    (lambda x: Linear()(x)[:1], "1 answers for 3 images"),
    (lambda x: {"logits": Linear()(x)}, "expected logits [B,classes]"),
    (lambda x: None, "expected logits [B,classes]"),
    (lambda x: (Linear()(x), Linear()(x)[:, :1]), "expected logits [B,classes]"),
    (None, "expected a Network or a function"),
    ("resnet50", "expected a Network or a function"),
]


@pytest.mark.sample("^bim$", "^deepfool$", "^smallest$", "^grid$", "^patch$")
@pytest.mark.parametrize("name", ATTACKS)
def test_misuse_is_refused(name):
    attack = partial(ATTACKS[name], compile="eager")
    for labels, message in BAD_LABELS:
        refuse(lambda labels=labels: attack(Linear(), IMAGES, labels), message)
    refuse(lambda: attack(Linear(), IMAGES[:1], 0), "labels")
    for images, message in BAD_IMAGES:
        refuse(lambda images=images: attack(Linear(), images, LABELS[: len(images)]), message)
    for network, message in BAD_NETWORKS:
        refuse(lambda network=network: attack(network, IMAGES, [0] * 3), message)
    refuse(lambda: ATTACKS[name](Linear(), IMAGES, LABELS, compile="jit"), "compile is 'jit'")


@pytest.mark.parametrize("name", TARGETED)
def test_a_wrong_target_is_refused(name):
    for target in (3, -1, "a", True, 1.5, [0], [0, 1, 3], [0.0] * 3, [True] * 3, np.ones((3, 1), int)):
        refuse(lambda t=target: ATTACKS[name](Linear(), IMAGES, LABELS, target=t, compile="eager"), "target")
    for target in (1, np.int64(1), np.array(1), [1] * 3, tf.constant(1), tf.constant([1] * 3)):
        found = ATTACKS[name](Linear(), IMAGES, LABELS, target=target, compile="eager")
        np.testing.assert_array_equal(found.target, [1] * 3)


def test_a_step_must_fit_like_epsilon():
    for value, message in WRONG:
        message = message.replace("epsilon", "step")
        if value is not None:  # the default, ε/4
            refuse(lambda v=value: attacks.pgd(Linear(), IMAGES, LABELS, step=v, compile="eager"), message)
            refuse(lambda v=value: attacks.bim(Linear(), IMAGES, LABELS, step=v, compile="eager"), message)


COUNTS = ("steps", "restarts", "seed", "first", "angles", "shifts", "trials", "candidates")
NUMBERS = ("momentum", "overshoot", "rotation", "translation", "largest", "tolerance")
WORDS = ("norm", "precision", "method", "random_start", "early_stop")


@pytest.mark.parametrize("attack", [attacks.bim, attacks.mi_fgsm, attacks.pgd, attacks.deepfool, attacks.smallest])
def test_wrong_settings_are_refused(attack):
    known = inspect.signature(attack).parameters
    for names, values in (
        (COUNTS, (0.5, "3", True, -1, 2**31, None, float("nan"), [1])),
        (NUMBERS, ("3", True, -1, None, float("nan"), float("inf"), [1.0, 2.0], 1e39)),
        (WORDS, ("no", 3, None, [1], "")),
    ):
        for name in set(names) & set(known):
            for value in values:
                if (name, value) != ("steps", None):  # bim's default
                    refuse(lambda n=name, v=value: attack(Linear(), IMAGES, LABELS, compile="eager", **{n: v}), name)


def test_wrong_settings_of_spatial_are_refused():
    for name, values in {
        "angles": (0, True, 1.5), "method": ("all", None), "rotation": (181, "a"), "translation": (-1, 1e39, None),
    }.items():  # fmt: skip
        for value in values:
            refuse(lambda n=name, v=value: attacks.spatial(Linear(), IMAGES, LABELS, **{n: v}), name)


def test_a_momentum_that_overflows_is_refused():
    refuse(lambda: attacks.pgd(Linear(), IMAGES, LABELS, momentum=2.0, steps=200), "momentum is 2", "200 steps")
    found = attacks.pgd(Linear(), IMAGES, LABELS, momentum=2.0, steps=40, norm="l2", early_stop=False)
    assert np.isfinite(found.images).all()


# Patches and substitutes ------------------------------------------------------------------------------------


def test_a_patch_for_a_class_that_does_not_exist():
    network = Linear(references.random((60, 4)))
    for target in (4, 12):
        refuse(lambda t=target: attacks.make_patch(network, IMAGES, target=t), f"got the class {target} in target; ",
               "0 to 3")  # fmt: skip
    for target in (None, "1", True, -1, 1.0):
        refuse(lambda t=target: attacks.make_patch(network, IMAGES, target=t), "target is")
    for scale in ("abc", ("a", "b"), (0.5,), (0.5, 0.1), (0.0, 1.0), (True, True), None):
        refuse(lambda s=scale: attacks.make_patch(network, IMAGES, target=1, scale=s), "scale is")
    for made in (None, np.zeros((5, 5, 3)), "patch.png"):
        refuse(lambda m=made: attacks.patch(network, IMAGES, LABELS, patch=m), "patch is")


def test_a_substitute_that_is_none():
    for made in (None, Linear(), "substitute.safetensors"):
        refuse(lambda m=made: attacks.substitute(Linear(), IMAGES, LABELS, substitute=m), "substitute is")
    seeds = references.random((2, 8, 8, 3), low=0.0)
    oracle = Network("oracle", small, size=8, classes=10)
    for settings, message in (
        ({"classes": 1}, "classes is 1"),
        ({"classes": True}, "classes is True"),
        ({"reservoir": ("a", 3)}, "the first of reservoir is 'a'"),
        ({"reservoir": 3}, "reservoir is 3"),
        ({"rounds": True}, "rounds is True"),
    ):
        refuse(lambda s=settings: attacks.make_substitute(oracle, seeds, **{"classes": 10, **s}), message)


@pytest.mark.parametrize("make", [attacks.evolve, attacks.ascend])
def test_fooling_images_of_one_class_are_refused(make):
    refuse(lambda: make(Linear(WEIGHTS[:, :1]), size=(4, 5), compile="eager"), "has 1 class")
    refuse(lambda: make(lambda x: Linear()(x)[0], size=(4, 5), compile="eager"), "expected logits [B,classes]")
    refuse(lambda: make(None, size=(4, 5), compile="eager"), "expected a Network or a function")


def test_accuracy_against_epsilon_refuses_before_the_work():
    for epsilons, message in (([], "no epsilons"), ([0.1, -2], "-2"), (["a"], "expected a number"), (None, "epsilons"),
                              (0.1, "epsilons"), ([0.1, True], "expected a number")):  # fmt: skip
        network = Linear()
        refuse(lambda e=epsilons, n=network: attacks.accuracy_against_epsilon(attacks.fgsm, n, IMAGES, LABELS, e),
               message)  # fmt: skip
        assert network.calls == 0
    refuse(lambda: attacks.accuracy_against_epsilon(attacks.fgsm, Linear(), IMAGES, 0, [0.1]), "labels")
    refuse(lambda: attacks.accuracy_against_epsilon(attacks.fgsm, Linear(), IMAGES, LABELS, [0.1], batch="2"), "batch")


def test_a_data_set_of_other_classes_is_refused_before_the_work(monkeypatch):
    network, labels = Network("small", small, size=8, classes=7), np.zeros(4, np.int32)
    images = tf.zeros((4, 8, 8, 3), tf.uint8)
    data = DataSet("four", tuple("abcd"), (8, 8), {"test": Split(labels, images), "train": Split(labels, images)})

    def run(asked, *arguments, **settings):
        assert isinstance(asked, PlaceholderNetwork), "the network runs"
        raise SettingsAccepted

    monkeypatch.setattr("rawcnn.attacks.problem.run_compiled", run)
    for call in (
        lambda: attacks.sweep(attacks.fgsm, network, data, [0.1]),
        lambda: attacks.columns_of(attacks.deepfool, network, data),
        lambda: attacks.examples_of(network, data),
        *(partial(attacks.study, name, network, data, target=1 if name == "patch" else None) for name in CATALOGUE),
    ):
        refuse(call, "four has 4 classes, but small was built for 7")
    refuse(lambda: attacks.study("fgsm", network, data, [0.1], target=9), "four has 4 classes")


# Numbers of other libraries ----------------------------------------------------------------------------------

SCALARS = [
    pytest.param(lambda v: np.asarray(v)[()], id="NumPy scalar"),
    pytest.param(np.array, id="array"),
    pytest.param(tf.constant, id="tensor"),
]


def json_of(settings) -> str:
    return json.dumps(settings, allow_nan=False)


@pytest.mark.parametrize("kind", SCALARS)
def test_counts_and_numbers_of_every_library_are_those_of_python(kind):
    """One way in: what Python's number gives, NumPy's and TensorFlow's scalars give too."""
    for attack, settings in (
        (attacks.pgd, {"steps": 2, "restarts": 2, "seed": 3, "first": 1, "momentum": 0.5}),
        (attacks.mi_fgsm, {"steps": 3, "momentum": 0.5}),
        (attacks.deepfool, {"steps": 2, "candidates": 3, "overshoot": 0.25}),
        (attacks.spatial, {"angles": 3, "shifts": 2, "rotation": 20.0, "translation": 1.5}),
        (attacks.spatial, {"method": "worst", "trials": 2, "seed": 3}),
        (attacks.spatial, {"method": "first-order", "steps": 2, "step": 0.25}),
        (attacks.patch, {"patch": PATCH, "rotation": 10.0, "seed": 2}),
    ):
        expected = attack(Linear(), IMAGES, LABELS, compile="eager", **settings)
        numbers = {k: v if isinstance(v, (str, Patch)) else kind(v) for k, v in settings.items()}
        found = attack(Linear(), IMAGES, LABELS, compile="eager", **numbers)
        np.testing.assert_array_equal(found.images, expected.images)
        json_of(found.summary())


@pytest.mark.parametrize("kind", SCALARS)
def test_what_is_made_records_plain_numbers(kind):
    made = attacks.make_patch(
        Linear(), IMAGES, target=kind(1), steps=kind(2), batch=kind(2), rate=kind(0.5), rotation=kind(5.0),
        scale=[kind(0.25), kind(0.75)], size=kind(4), seed=kind(1), compile="eager",
    )  # fmt: skip
    assert json_of(made.settings) == json_of(
        {"steps": 2, "batch": 2, "rate": 0.5, "scale": [0.25, 0.75], "rotation": 5.0, "seed": 1}
    )
    made = attacks.ascend(
        Linear(), size=IMAGES.shape[1:3], steps=kind(1), rate=kind(0.5), decay=kind(0.25), compile="eager"
    )
    assert json_of(made.settings).endswith('"steps": 1, "rate": 0.5, "decay": 0.25, "seed": 0}')
    made = attacks.evolve(
        Linear(), size=IMAGES.shape[1:3], generations=kind(1), population=kind(3), every=kind(1), compile="eager"
    )
    json_of([made.settings, made.summary()])
    adversary = attacks.Adversary(kind(0.5), kind(0.25), kind(2))
    assert json_of([adversary.epsilon, adversary.step, adversary.steps]) == "[0.5, 0.25, 2]"


def test_fractions_are_numbers():
    eighth = Fraction(1, 8)
    made = attacks.make_patch(
        Linear(), IMAGES, target=1, steps=1, rate=eighth, rotation=eighth, scale=(eighth, 1), compile="eager"
    )
    json_of(made.settings)
    adversary = attacks.Adversary(eighth, steps=1)
    assert np.isfinite(adversary(Linear(), tf.constant(IMAGES), tf.constant(LABELS), tf.constant([0, 1]))).all()
    found = attacks.fgsm(Linear(), IMAGES, LABELS, epsilon=tf.constant(0.125, "bfloat16"), compile="eager")
    np.testing.assert_array_equal(found.images, attacks.fgsm(Linear(), IMAGES, LABELS, epsilon=eighth).images)


def test_a_study_of_numpy_numbers_is_recorded(tmp_path):
    labels = np.arange(6, dtype=np.int32) % 3
    images = tf.cast(255 * references.random((6, 8, 8, 3), low=0.0), tf.uint8)
    data = DataSet("six", tuple("abc"), (8, 8), {"test": Split(labels, images), "train": Split(labels, images)})
    network = Network("small", small, size=8, classes=3)
    found = attacks.study(
        "pgd", network, data, np.array([0, 0.125], np.float32), target=np.int64(1), count=np.int64(4),
        batch=np.int32(2), seed=np.uint8(1), journal=tmp_path / "rows.jsonl",
        settings={"steps": np.int64(2), "early_stop": np.False_, "momentum": np.float32(0.5)},
    )  # fmt: skip
    json_of([found.rows, found.settings])


def test_a_substitute_for_images_that_are_not_square():
    oracle = Network("oracle", small, size=(8, 12), classes=10)
    seeds = references.random((4, 8, 12, 3), low=0.0)
    recipe = replace(RECIPE, epochs=1)
    made = attacks.make_substitute(
        oracle, seeds, classes=np.int64(10), rounds=np.int64(1), limit=np.int64(9), turn=np.int32(1),
        reservoir=np.array([0, 3]), augmentation=np.float32(0.25), seed=np.int64(0), recipe=recipe, compile="eager",
    )  # fmt: skip
    assert made.network.image_size == (8, 12)
    assert json_of([made.settings, made.rounds]).startswith(
        '[{"seeds": 4, "rounds": 1, "limit": 9, "augmentation": 0.25'
    )
    found = attacks.substitute(oracle, seeds, [0] * 4, substitute=made, epsilon=0.1)
    assert found.images.shape == seeds.shape


def test_other_misuse_is_refused_in_a_sentence():
    for images in (None, "x.png", [IMAGES[0], IMAGES[0][:2]], [None], object()):
        refuse(lambda i=images: attacks.fgsm(Linear(), i, LABELS), "images", "expected a batch [B,H,W,3]")
    for attack in (None, "fgsm", attacks.deepfool):
        refuse(lambda a=attack: attacks.smallest(Linear(), IMAGES, LABELS, attack=a), "attack is", "takes epsilon")
        refuse(lambda a=attack: attacks.accuracy_against_epsilon(a, Linear(), IMAGES, LABELS, [0.1]), "attack is")
    refuse(lambda: attacks.spatial(Linear(), IMAGES, LABELS, angles=10**6, shifts=10**4), "places; expected", "worst")
    size = IMAGES.shape[1:3]
    refuse(lambda: attacks.evolve(Linear(), size=size, encoding=["cppn"]), "encoding is ['cppn']; expected one of")
    refuse(lambda: attacks.evolve(Linear(), size=size, checkpoint=3), "checkpoint is 3; expected a path")
