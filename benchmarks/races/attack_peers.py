"""The opponents in attacks: foolbox, ART (Adversarial Robustness Toolbox), cleverhans, and a loop around Keras.

    keras function         PGD only: a tf.function with a tf.while_loop around the Keras twin of the network
    foolbox, art, …        the libraries as their users call them; the network is a function images → logits
    foolbox function, …    the same, with that function wrapped in a tf.function

All take the same steps of the same length from the same images, without a random start. The libraries differ in these
points: none of them removes images that are already misclassified from the batch. cleverhans traces the gradient
itself, so its two contestants are nearly equal. ART's grid predicts by its own tf.function. In the grid, foolbox keeps
the first transform that succeeds, stops when all images are misclassified, and rotates the frame of the translation.
ART translates by whole pixels, resamples by cubic splines of SciPy and uses one transform for the complete batch.
cleverhans has neither DeepFool nor a grid for TensorFlow 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.twins.keras import keras_twin
from rawcnn.nn.network import Network

LIBRARIES = {
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "cleverhans": "cleverhans",
}  # names of the distributions


@dataclass(frozen=True)
class AttackTask:
    """The attacked network, the images, and the settings of the attack."""

    network: Network
    images: np.ndarray  # float32 [B,H,W,3] in [0,1]
    labels: np.ndarray  # int32 [B]
    settings: Mapping[str, Any]  # by rawcnn's names; distances in pixel values of [0,1]

    def with_settings(self, **settings: Any) -> AttackTask:
        """Return the task with other settings."""
        return replace(self, settings={**self.settings, **settings})

    def first(self, count: int) -> AttackTask:
        """Return the task on the first `count` images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


Run = Callable[[], np.ndarray]  # returns the attacked images, float32 [B,H,W,3]


def function_of(task: AttackTask, name: str) -> Callable[..., tf.Tensor]:
    """Return the network as a function images → logits; for "… function" it is traced once for all batch sizes.

    The argument `training` is for ART, which passes it.
    """

    @tf.autograph.experimental.do_not_convert  # otherwise cleverhans converts it
    def logits(images, training=False):
        return task.network(images)

    if not name.endswith(" function"):
        return logits
    spec = tf.TensorSpec((None, *task.images.shape[1:]), tf.float32)
    traced = tf.function(task.network.__call__, input_signature=[spec], autograph=False)
    return lambda images, training=False: traced(images)


# Keras ---------------------------------------------------------------------------------------------------------------


def keras_pgd(task: AttackTask, name: str) -> Run:
    """Return PGD with all steps in one graph around the Keras twin."""
    twin, s = keras_twin(task.network), task.settings
    images, labels = tf.constant(task.images), tf.constant(task.labels)

    def ascend(k, x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, twin(x, training=False))
        x += s["step"] * tf.sign(tape.gradient(losses, x))
        x = tf.clip_by_value(x, images - s["epsilon"], images + s["epsilon"])
        return k + 1, tf.clip_by_value(x, 0.0, 1.0)

    @tf.function(autograph=False)
    def attack():
        return tf.while_loop(lambda k, x: k < s["steps"], ascend, (0, images))[1]

    return lambda: attack().numpy()


# foolbox -------------------------------------------------------------------------------------------------------------


def foolbox() -> Any:
    """Return the library. Its dependency eagerpy calls np.find_common_type, which NumPy 2 removed; it is restored."""
    if not hasattr(np, "find_common_type"):
        np.find_common_type = lambda arrays, scalars: np.result_type(*arrays, *scalars)  # type: ignore[attr-defined]
    import foolbox.attacks

    return foolbox


def _foolbox(make: Callable[[Any, Mapping[str, Any]], Any], task: AttackTask, name: str) -> Run:
    """Return foolbox's attack that `make` creates; epsilon is None for attacks that minimize the change."""
    library = foolbox()
    where = "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
    model = library.TensorFlowModel(function_of(task, name), bounds=(0, 1), device=where)
    attack = make(library.attacks, task.settings)
    images, labels = (
        tf.constant(task.images),
        tf.constant(task.labels, tf.int64),
    )  # foolbox compares them with an int64 argmax

    def run() -> np.ndarray:
        _, clipped, _ = attack(model, images, labels, epsilons=task.settings.get("epsilon"))
        return np.clip(clipped.numpy(), 0, 1)  # its grid exceeds [0,1] by rounding

    return run


def _foolbox_pgd(attacks: Any, s: Mapping[str, Any]) -> Any:
    return attacks.LinfPGD(abs_stepsize=s["step"], steps=s["steps"], random_start=False)


def _foolbox_deepfool(attacks: Any, s: Mapping[str, Any]) -> Any:
    return attacks.L2DeepFoolAttack(steps=s["steps"], candidates=s["candidates"], overshoot=s["overshoot"])


def _foolbox_grid(attacks: Any, s: Mapping[str, Any]) -> Any:
    return attacks.SpatialAttack(
        max_translation=s["translation"],
        max_rotation=s["rotation"],
        num_translations=s["shifts"],
        num_rotations=s["angles"],
        grid_search=True,
    )


# ART -----------------------------------------------------------------------------------------------------------------


def art() -> tuple[Any, Any]:
    """Return the modules of attacks and classifiers; ART's warning about missing PyTorch is suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import art.attacks.evasion
        import art.estimators.classification
    return art.attacks.evasion, art.estimators.classification


def _art(make: Callable[[Any, Any, AttackTask], Any], task: AttackTask, name: str) -> Run:
    """Return ART's attack that `make` creates; ART takes and returns NumPy arrays."""
    attacks, classification = art()
    classifier = classification.TensorFlowV2Classifier(
        model=function_of(task, name),
        nb_classes=task.network.classes,
        input_shape=task.images.shape[1:],
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    attack = make(attacks, classifier, task)
    return lambda: np.clip(attack.generate(x=task.images, y=task.labels), 0, 1)  # the splines of its grid overshoot


def _art_pgd(attacks: Any, classifier: Any, task: AttackTask) -> Any:
    s = task.settings
    return attacks.ProjectedGradientDescent(
        classifier,
        eps=s["epsilon"],
        eps_step=s["step"],
        max_iter=s["steps"],
        batch_size=len(task.images),
        verbose=False,
    )


def _art_deepfool(attacks: Any, classifier: Any, task: AttackTask) -> Any:
    s = task.settings
    return attacks.DeepFool(
        classifier,
        max_iter=s["steps"],
        epsilon=s["overshoot"],
        nb_grads=s["candidates"],
        batch_size=len(task.images),
        verbose=False,
    )


def _art_grid(attacks: Any, classifier: Any, task: AttackTask) -> Any:
    s = task.settings

    class Grid(attacks.SpatialTransformation):
        """A grid that is searched at each call; ART's reuses the transform of its first call."""

        def generate(self, x, y=None, **kwargs):
            self.attack_rot = None
            return super().generate(x, y, **kwargs)

    return Grid(
        classifier,
        max_translation=100 * s["translation"] / task.images.shape[1],  # percent
        num_translations=s["shifts"],
        max_rotation=s["rotation"],
        num_rotations=s["angles"],
        verbose=False,
    )


# cleverhans ----------------------------------------------------------------------------------------------------------


def _cleverhans_pgd(task: AttackTask, name: str) -> Run:
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    model, s = function_of(task, name), task.settings
    images, labels = tf.constant(task.images), tf.constant(task.labels)

    def run() -> np.ndarray:
        attacked = projected_gradient_descent(
            model, images, s["epsilon"], s["step"], s["steps"], np.inf,
            clip_min=0.0, clip_max=1.0, y=labels, rand_init=False,
        )  # fmt: skip
        return attacked.numpy()

    return run


def _both(name: str, make: Callable[[AttackTask, str], Run]) -> dict[str, Callable[[AttackTask, str], Run]]:
    """The library with the network as a Python function and as a tf.function."""
    return {name: make, f"{name} function": make}


OPPONENTS: dict[str, dict[str, Callable[[AttackTask, str], Run]]] = {  # by the kind of attack and the contestant's name
    "pgd": {
        "keras function": keras_pgd,
        **_both("foolbox", partial(_foolbox, _foolbox_pgd)),
        **_both("art", partial(_art, _art_pgd)),
        **_both("cleverhans", _cleverhans_pgd),
    },
    "deepfool": {
        **_both("foolbox", partial(_foolbox, _foolbox_deepfool)),
        **_both("art", partial(_art, _art_deepfool)),
    },
    "grid": {
        **_both("foolbox", partial(_foolbox, _foolbox_grid)),
        "art": partial(_art, _art_grid),
    },
}


def library_of(name: str) -> str | None:
    """Return the distribution that a contestant needs; None for Keras and rawcnn."""
    return LIBRARIES.get(name.removesuffix(" function"))
