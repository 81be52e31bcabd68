"""The opponents in attacks: foolbox, ART (Adversarial Robustness Toolbox), cleverhans, and a loop around Keras.

    keras function         PGD alone: a tf.function with a tf.while_loop around the Keras twin of the network
    foolbox, art, …        as their users call them, the network being a plain function images → logits
    foolbox function, …    the same, that function wrapped in a tf.function

All take the same steps of the same length from the same images, without a random start. What differs: none of them
leaves out the images that are fooled already. cleverhans traces the gradient by itself, so that its two ways are nearly
one; ART predicts, in its grid, by a tf.function of its own. Of the grid foolbox keeps the first place that fools and
ends when all images are fooled; it turns the frame that it moves in. ART moves by whole pixels, samples by cubic
splines of SciPy and takes one place for the whole batch. cleverhans has neither DeepFool nor a grid for TensorFlow 2.
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
}  # as pip has them


@dataclass(frozen=True)
class Task:
    """Who is attacked, on which images, and how."""

    network: Network
    images: np.ndarray  # float32 [B,H,W,3] in [0,1]
    labels: np.ndarray  # int32 [B]
    settings: Mapping[str, Any]  # of the attack, by rawcnn's names; distances in pixel values of [0,1]

    def of(self, **settings: Any) -> Task:
        """The same with other settings."""
        return replace(self, settings={**self.settings, **settings})

    def first(self, count: int) -> Task:
        """The same on the first images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


Run = Callable[[], np.ndarray]  # → the attacked images, float32 [B,H,W,3]


def function_of(task: Task, name: str) -> Callable[..., tf.Tensor]:
    """The network as a function images → logits: plain, or for "… function" traced once for all batches.

    ART and Keras's users call it with `training`.
    """

    @tf.autograph.experimental.do_not_convert  # cleverhans would try
    def logits(images, training=False):
        return task.network(images)

    if not name.endswith(" function"):
        return logits
    spec = tf.TensorSpec((None, *task.images.shape[1:]), tf.float32)
    traced = tf.function(task.network.__call__, input_signature=[spec], autograph=False)
    return lambda images, training=False: traced(images)


# Keras ---------------------------------------------------------------------------------------------------------------


def keras_pgd(task: Task, name: str) -> Run:
    """All steps as one graph around the Keras twin, as one writes it by hand."""
    twin, s = keras_twin(task.network), task.settings
    images, labels = tf.constant(task.images), tf.constant(task.labels)

    def climb(k, x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, twin(x, training=False))
        x += s["step"] * tf.sign(tape.gradient(losses, x))
        x = tf.clip_by_value(x, images - s["epsilon"], images + s["epsilon"])
        return k + 1, tf.clip_by_value(x, 0.0, 1.0)

    @tf.function(autograph=False)
    def attack():
        return tf.while_loop(lambda k, x: k < s["steps"], climb, (0, images))[1]

    return lambda: attack().numpy()


# foolbox -------------------------------------------------------------------------------------------------------------


def foolbox() -> Any:
    """The library; eagerpy, on which it rests, is given back a function that NumPy 2 has no more."""
    if not hasattr(np, "find_common_type"):
        np.find_common_type = lambda arrays, scalars: np.result_type(*arrays, *scalars)  # type: ignore[attr-defined]
    import foolbox.attacks

    return foolbox


def _foolbox(make: Callable[[Any, Mapping[str, Any]], Any], task: Task, name: str) -> Run:
    """`make` gives the attack; epsilon is None where the attack looks for the smallest change."""
    library = foolbox()
    where = "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
    model = library.TensorFlowModel(function_of(task, name), bounds=(0, 1), device=where)
    attack = make(library.attacks, task.settings)
    images, labels = tf.constant(task.images), tf.constant(task.labels, tf.int64)  # it compares with an argmax

    def run() -> np.ndarray:
        _, clipped, _ = attack(model, images, labels, epsilons=task.settings.get("epsilon"))
        return np.clip(clipped.numpy(), 0, 1)  # its grid rounds beyond

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
    """The library's attacks and classifiers; it warns at its import that there is no PyTorch, which is not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import art.attacks.evasion
        import art.estimators.classification
    return art.attacks.evasion, art.estimators.classification


def _art(make: Callable[[Any, Any, Task], Any], task: Task, name: str) -> Run:
    """`make` gives the attack on a classifier. ART takes and gives NumPy arrays."""
    attacks, classification = art()
    classifier = classification.TensorFlowV2Classifier(
        model=function_of(task, name),
        nb_classes=task.network.classes,
        input_shape=task.images.shape[1:],
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    attack = make(attacks, classifier, task)
    return lambda: np.clip(attack.generate(x=task.images, y=task.labels), 0, 1)  # splines overshoot in its grid


def _art_pgd(attacks: Any, classifier: Any, task: Task) -> Any:
    s = task.settings
    return attacks.ProjectedGradientDescent(
        classifier,
        eps=s["epsilon"],
        eps_step=s["step"],
        max_iter=s["steps"],
        batch_size=len(task.images),
        verbose=False,
    )


def _art_deepfool(attacks: Any, classifier: Any, task: Task) -> Any:
    s = task.settings
    return attacks.DeepFool(
        classifier,
        max_iter=s["steps"],
        epsilon=s["overshoot"],
        nb_grads=s["candidates"],
        batch_size=len(task.images),
        verbose=False,
    )


def _art_grid(attacks: Any, classifier: Any, task: Task) -> Any:
    s = task.settings

    class Grid(attacks.SpatialTransformation):
        """Searches at each call, where ART's would use the place that it found before."""

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


def _cleverhans_pgd(task: Task, name: str) -> Run:
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


def _both(name: str, way: Callable[[Task, str], Run]) -> dict[str, Callable[[Task, str], Run]]:
    return {name: way, f"{name} function": way}


WAYS: dict[str, dict[str, Callable[[Task, str], Run]]] = {  # by the kind of attack and the contestant's name
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
    """The distribution that a contestant needs; None for Keras and rawcnn."""
    return LIBRARIES.get(name.removesuffix(" function"))
