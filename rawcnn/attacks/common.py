"""What all attacks share: the network as a function, its loss and its gradient.

An attack uses a network only as a function images → logits, so it accepts a `Network` and any other callable. It calls
`network(images)`, never in training mode, so batch normalization uses its running averages and does not update them.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_class_count

Classifier = Callable[[tf.Tensor], tf.Tensor]  # images [B,H,W,3] in [0,1] → logits [B,classes]
NO_CLASS = -1  # the prediction of an image for which a logit is NaN; it is neither right nor a success


# The network, its loss and its gradient ---------------------------------------------------------------------


def logits_of(network: Classifier, images: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] → logits [B,classes], float32. ValueError if the network returns something else."""
    answer = network(images)
    try:
        logits = tf.convert_to_tensor(answer)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        raise ValueError(f"the network returns a {type(answer).__name__}; expected logits [B,classes]") from None
    if logits.shape.rank != 2 or logits.dtype.is_bool or not (logits.dtype.is_floating or logits.dtype.is_integer):
        raise ValueError(f"the network returns {logits.dtype.name} {logits.shape}; expected logits [B,classes]")
    if logits.shape[1] is not None:
        check_class_count(logits.shape[1])
    return tf.cast(logits, tf.float32)


def attack_loss(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """J [B], which an attack maximizes: the loss of the label or, targeted, minus the loss of the target."""
    loss = kernels.cross_entropy(logits, goals)
    return -loss if targeted else loss


def predicted(logits: tf.Tensor) -> tf.Tensor:
    """int32 [B]: the class of the largest logit, or `NO_CLASS` for an image whose logits [B,classes] have a NaN."""
    unknown = tf.reduce_any(tf.math.is_nan(logits), axis=1)
    return tf.where(unknown, NO_CLASS, tf.argmax(logits, axis=1, output_type=tf.int32))


def fooled(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """bool [B]: the network predicts a class that is not the label or, targeted, is the target."""
    predictions = predicted(logits)
    return predictions == goals if targeted else (predictions != goals) & (predictions != NO_CLASS)


def loss_gradient(
    network: Classifier, images: tf.Tensor, goals: tf.Tensor, targeted: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """(∇ₓJ, the gradient of the attack's loss to the images [B,H,W,3]; the logits [B,classes]).

    The loss is summed over the batch, so an image's gradient does not depend on the batch size. Only the images are
    watched, so no gradient to a filter is computed.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(network, images)
        total = tf.reduce_sum(attack_loss(logits, goals, targeted))
    return gradient_of(tape, total, images), logits


def gradient_of(tape: tf.GradientTape, value: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """The tape's gradient of a value that the network computed, made `finite`. ValueError if there is none."""
    gradient = tape.gradient(value, source)
    if gradient is None:
        raise ValueError(
            "the network's answer has no gradient to its images; expected differentiable operations "
            "(to attack a network that reads levels, created with discretize, use logit_pga)"
        )
    return finite(gradient)


def finite(gradient: tf.Tensor) -> tf.Tensor:
    """A gradient [B,…] without NaN and infinities; a finite one keeps every bit.

    A NaN becomes 0, because it shows no direction. An infinite entry counts as much as the largest finite one of its
    image, or is ±1 if all finite ones are 0: sqrt(x) at x = 0 has such a gradient, and its sign is right.
    """
    axes = list(range(1, gradient.shape.rank))
    magnitude = tf.where(tf.math.is_finite(gradient), tf.abs(gradient), 0.0)
    largest = tf.reduce_max(magnitude, axes, keepdims=True)
    largest = tf.where(largest > 0, largest, 1.0)
    return tf.where(tf.math.is_nan(gradient), 0.0, tf.clip_by_value(gradient, -largest, largest))


def per_image(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[B] → [B,1,…,1], of the rank of `like`."""
    return tf.reshape(values, (-1, *(1,) * (like.shape.rank - 1)))


# Checks -----------------------------------------------------------------------------------------------------


def shown(value) -> str:
    """A wrong value for a message: one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_network(network: Classifier) -> None:
    """ValueError unless the network is a function."""
    if not callable(network):
        raise ValueError(f"the network is a {type(network).__name__}; expected a Network or a function images → logits")


def check_class_count(classes: int) -> None:
    """ValueError for a network of fewer than two classes."""
    if classes < 2:
        raise ValueError(f"the network has {classes} class; expected 2 or more, so that there is another one to reach")


def count_of(labels) -> int:
    """How many labels there are; 0 if they are no list, which `check_classes` refuses."""
    try:
        return np.shape(labels)[0] if np.ndim(labels) == 1 else 0
    except (TypeError, ValueError):  # sequences of different lengths
        return 0


def check_range(images: tf.Tensor) -> tf.Tensor:
    """The images. ValueError for an empty batch and for values outside [0,1]."""
    if 0 in images.shape:
        raise ValueError(f"images are an empty batch {tuple(images.shape)}; expected one image or more")
    if count := int(tf.reduce_sum(tf.cast(tf.math.is_nan(images), tf.int32))):
        raise ValueError(f"images have {count} values that are NaN; expected RGB in [0,1]")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if low >= 0 and high <= 1:
        return images
    found, excess = f"images have values from {low:g} to {high:g}", max(high - 1, -low)
    if excess < 1e-3:  # rounding, which :g does not show
        found += f", {excess:.2g} {'above 1' if high > 1 else 'below 0'}"
        raise ValueError(f"{found}; expected RGB in [0,1]: clip them, for instance with numpy.clip")
    raise ValueError(f"{found}; expected RGB in [0,1]: the network normalizes")


def check_classes(name: str, values, count: int, classes: int) -> np.ndarray:
    """Class numbers as int32 [count]. ValueError for another shape or type and for classes that do not exist."""
    expected = f"expected {count} class numbers, one per image"
    try:
        values = np.asarray(values)
    except (TypeError, ValueError):  # sequences of different lengths
        raise ValueError(f"got {name} that are no array; {expected}") from None
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"got {name} {values.dtype} {values.shape}; {expected}")
    if values.min() < 0 or values.max() >= classes:
        wrong = values[(values < 0) | (values >= classes)][0]
        raise ValueError(f"got the class {wrong} in {name}; expected 0 to {classes - 1}: the network has {classes}")
    return values.astype(np.int32)


def check_amounts(name: str, value, count: int | None, most: float, expected: str) -> np.ndarray:
    """Amounts, one or one per image, as float64 [count]; of any length if `count` is None.

    ValueError unless they are finite numbers in 0 … `most`; the message says what was `expected`.
    """
    values = _numbers(value)
    if values is None:
        raise ValueError(f"{name} is {shown(value)}; expected a number, or one per image")
    if values.shape not in ((), (count,)) and (count is not None or values.ndim != 1):
        images = "one per image" if count is None else f"one for each of {count} images"
        raise ValueError(f"{name} has shape {values.shape}; expected one number, or {images}")
    valid = np.isfinite(values) & (values >= 0) & (values <= most)
    if not valid.all():
        raise ValueError(f"{name} is {float(values[~valid].flat[0]):g}; expected {expected}")
    return values if count is None else np.broadcast_to(values, (count,))


def _numbers(value) -> np.ndarray | None:
    """A number or an array of numbers as float64; None for truth values, text, None and everything else."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, (bool, np.bool_)) for v in value):
        return None
    try:
        values = np.asarray(value)
        if values.dtype == object and not all(isinstance(v, Real) and not isinstance(v, bool) for v in values.flat):
            return None
        number = values.dtype == object or values.dtype.kind in "iuf" or values.dtype == tf.bfloat16.as_numpy_dtype
        return values.astype(np.float64) if number else None
    except (TypeError, ValueError, OverflowError):
        return None


def check_distances(name: str, value, count: int | None, norm: str = "linf") -> np.ndarray:
    """Distances in pixel values, one or [count], as float64 [count].

    ValueError unless they are finite, not negative and, in L∞, at most 1.
    """
    if norm == "l2":
        return check_amounts(name, value, count, LONGEST, f"0 or more, up to {LONGEST:g}")
    return check_amounts(name, value, count, 1.0, PIXEL_RANGE)


def check_distance(name: str, value, count: int, norm: str = "linf") -> tf.Tensor:
    """As `check_distances`, as a float32 tensor [count]."""
    return tf.constant(check_distances(name, value, count, norm), tf.float32)


def check_number(name: str, value: float, most: float = float(np.finfo(np.float32).max)) -> tf.Tensor:
    """A number as a float32 tensor. ValueError unless it is finite and lies in 0 … `most`."""
    values = _numbers(value)
    if values is None or values.shape != () or not 0 <= values <= most:
        raise ValueError(
            f"{name} is {shown(value)}; expected a number, 0 {f'to {most:g}' if most < 1e30 else 'or more'}"
        )
    return tf.constant(values, tf.float32)


def check_integer(name: str, value: int, least: int) -> tf.Tensor:
    """An integer as an int32 tensor. ValueError unless it lies in `least` … 2³¹ − 1."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value < 2**31:
        raise ValueError(f"{name} is {shown(value)}; expected a whole number, {least} or more and below 2³¹")
    return tf.constant(value, tf.int32)


def check_flag(name: str, value: bool) -> bool:
    """A truth value. ValueError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}; expected True or False")
    return bool(value)


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """One of the choices. ValueError that lists them for anything else."""
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {shown(value)}; expected one of {', '.join(known)}")
    return value
