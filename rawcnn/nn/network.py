"""A network: a model function together with its variables. `network(images)` returns logits.

The network traces its model function twice with symbolic images when it is created (`rawcnn.nn.trace`): once in
training mode, which lists the variables, and once in inference mode, which lists the operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import shown
from kernels.precision import wide
from rawcnn.nn.any_images import activations_of_any_images, of_any_images
from rawcnn.nn.arguments import Size, image_size, short_size, size_text, whole_number
from rawcnn.nn.limits import check_memory
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.nn.structure import Structure, complete_structure, trace_structure
from rawcnn.nn.trace import (
    PRECISIONS,
    Forward,
    Operation,
    Trace,
    TraceComplete,
    check_precision,
    find_operation,
)


class Network:
    """A model function with its variables.

    Attributes:
        variables: Path → `tf.Variable`, in the order in which the model creates them.
        parameters: Path → `Parameter`, the description that each variable was created from.
        operations: The operations of inference, in order.
        training_operations: The same in training, with auxiliary heads.
        auxiliary: Names of the operations whose activations are logits of auxiliary heads, in training.
        structure: These four together.
        image_size: The (height, width) of the images in pixels.
        input_size: The same as one number for square images: their side.
        last: The operation that the network ends with, if it was created to end before its classifier; otherwise None.
            Such a network has activations, but no logits and no classes.
        labels: The names of the classes, or None.
        settings: The arguments of `rawcnn.create`, which weight files record.
    """

    def __init__(
        self,
        name: str,
        model: Callable[[Trace, tf.Tensor], tf.Tensor],
        *,
        size: Size,
        classes: int,
        seed: int = 0,
        preprocessing: str = "none",
        precision: str = "float32",
        devices: Sequence[str] = (),
        last: str | None = None,
        settings: Mapping[str, object] | None = None,
        check: Callable[[Network], object] | None = None,
    ):
        """Create the variables of a model.

        Args:
            name: The network's name.
            model: The model function `model(net, images)`.
            size: The side of its images in pixels, or (height, width).
            classes: The number of classes; not read with `last`.
            seed: The seed that the variables are drawn from.
            preprocessing: The first step: "none", "centered", "torch" or "caffe".
            precision: "float32", "bfloat16" arithmetic over float32 variables, or "float64" for both.
            devices: The devices that layers are split over.
            last: The operation that the network ends with. What comes after it gets no variables. By default the model
                runs to its classifier.
            settings: What files of weights record about the network.
            check: Called with the network when its operations are known, before it has variables. It raises ValueError
                if they are not what the caller needs, such as a layer of some name.

        Raises:
            ValueError: An argument is unknown, or this machine has too little memory for the network.
        """
        if not isinstance(preprocessing, str) or preprocessing not in PREPROCESSING:
            raise ValueError(f"preprocessing is {preprocessing!r}; expected one of {', '.join(PREPROCESSING)}")
        check_precision(precision)
        check_devices(devices)
        self.name, self.model, self.image_size = name, model, image_size(size)
        self.input_size: Size = short_size(self.image_size)
        self.last = last
        self.classes = whole_number("classes", classes) if last is None else 0
        self.preprocessing, self.precision, self.devices = preprocessing, precision, tuple(devices)
        self.settings = dict(settings or {})
        self.labels: tuple[str, ...] | None = None
        self.structure = trace_structure(model, self.image_size, devices=devices, last=last)
        self.parameters, self.operations = self.structure.parameters, self.structure.operations
        self.training_operations, self.auxiliary = self.structure.training_operations, self.structure.auxiliary
        if check is not None:
            check(self)
        check_memory(name, self.input_size, self.parameters.values(), self.operations, self.wide.size)
        self.variables = {path: p.create(seed, self.wide) for path, p in self.parameters.items()}

    @cached_property
    def complete(self) -> Structure:
        """The structure of the complete model: also of what comes after `last`, for which there are no variables.

        It is the network's own structure if no image size fits the rest of the model.
        """
        if self.last is None:
            return self.structure
        return complete_structure(self.model, self.image_size) or self.structure

    @property
    def wide(self) -> tf.DType:
        """The type of the variables and of the logits: float64 in float64, float32 in float32 and bfloat16."""
        return tf.float64 if self.precision == "float64" else tf.float32

    @property
    def trained_variables(self) -> dict[str, tf.Variable]:
        """The variables that gradients move: all but the batch-norm averages."""
        return {path: v for path, v in self.variables.items() if v.trainable}

    @property
    def parameter_count(self) -> int:
        """The number of trained parameters, as the papers count them."""
        return sum(int(np.prod(v.shape)) for v in self.trained_variables.values())

    @property
    def head(self) -> str:
        """The name of the operation whose activations are the logits. Raises ValueError if there is none."""
        self.check_classifier()
        return self.operations[-1].name

    def check_classifier(self) -> None:
        """Check that the network has a classifier.

        Raises:
            ValueError: It ends with an earlier operation.
        """
        if self.last is not None:
            raise ValueError(
                f"this {self.name} ends with {self.last}, so it has no classifier and no logits; load weights with a "
                'classifier, or add a random one with head="skip" (--head skip)'
            )

    def operation(self, name: str) -> Operation:
        """Find an operation by its name.

        Args:
            name: The name, such as "conv1".

        Returns:
            The operation.

        Raises:
            ValueError: There is no such operation; the message lists similar names.
        """
        if not isinstance(name, str):
            raise ValueError(f"the layer is {name!r}; expected a name, such as {self.operations[0].name}")
        return find_operation(self.operations, name)

    def __call__(self, images) -> tf.Tensor:
        """Return the logits [B,classes] of images [B,H,W,3], float RGB in [0,1]."""
        return self.forward(images).logits

    def forward(self, images, train: bool = False, seed=None, relu=kernels.relu) -> Forward:
        """Run the network and return logits, all activations and the new batch-norm averages.

        Args:
            images: [B,H,W,3], float RGB in [0,1].
            train: Use the batch's own moments and drop units.
            seed: In training, an int or an int tensor [2] that the dropout masks are drawn from.
            relu: The rectifier with its backward rule; `kernels.guided_relu` gives guided backpropagation.

        Returns:
            Forward(logits, activations, statistics). Nothing is assigned: the training step assigns the statistics.
        """
        return self.trace(self.variables, images, train=train, seed=seed, relu=relu)

    def trace(
        self,
        variables: Mapping[str, tf.Tensor | tf.Variable],
        images: tf.Tensor,
        *,
        train: bool = False,
        seed: int | tf.Tensor | None = None,
        relu: Callable[[tf.Tensor], tf.Tensor] = kernels.relu,
        trace_type: Callable[..., Trace] = Trace,
    ) -> Forward:
        """Compute `forward` as a pure function of (variables, images).

        Gradients, moving averages and exports need this form.

        Args:
            variables: Path → tensor or variable.
            images: [B,H,W,3], float RGB in [0,1].
            train: Use the batch's own moments and drop units.
            seed: In training, an int or an int tensor [2] that the dropout masks are drawn from.
            relu: The rectifier with its backward rule.
            trace_type: Another kind of trace than `Trace`, such as one that folds batch norms or inverts pools.

        Returns:
            Logits in float32 or wider, activations and batch-norm statistics.

        Raises:
            ValueError: The images are not [B,H,W,3], the layers do not fit them, or the network has no classifier:
                then `activations` computes the output of layers.
        """
        self.check_classifier()

        def run(images: tf.Tensor) -> Forward:
            net = self._begin(trace_type, variables, images, train=train, seed=seed, relu=relu)
            logits = wide(self.model(net, net.images))
            return Forward(logits, net.activations, net.statistics)

        return of_any_images(run, self._images(images), variables)

    def activations(
        self,
        images,
        layers: Sequence[str],
        *,
        relu: Callable[[tf.Tensor], tf.Tensor] = kernels.relu,
        trace_type: Callable[..., Trace] = Trace,
        variables: Mapping[str, tf.Tensor | tf.Variable] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Return the activations of some layers; the trace stops after the last of them.

        What comes after them is neither computed nor traced, and need not fit the images: a convolution of AlexNet
        takes images of any size, although its classifier does not.

        Args:
            images: [B,H,W,3], float RGB in [0,1].
            layers: Names of operations.
            relu: The rectifier with its backward rule.
            trace_type: Another kind of trace than `Trace`.
            variables: Other variables than the network's own, by path.

        Returns:
            Layer → its output, such as [B,H',W',C].

        Raises:
            ValueError: A layer is unknown.
        """

        def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
            net = self._begin(trace_type, variables or self.variables, images, relu=relu)
            net.requested = frozenset(self.operation(layer).name for layer in layers)
            with suppress(TraceComplete):
                self.model(net, net.images)
            return {layer: net.activations[layer] for layer in layers}

        return activations_of_any_images(run, self._images(images))

    def _images(self, images) -> tf.Tensor:
        """Return checked images as float32, or as float64 if they or the network are."""
        return check_images(images, tf.float64 if getattr(images, "dtype", None) == tf.float64 else self.wide)

    def _begin(self, trace_type: Callable[..., Trace], variables, images, *, seed=None, **options) -> Trace:
        """Return a new trace over the preprocessed images, in the network's precision."""
        seed = None if seed is None else check_seed(seed)
        inputs, dtype = PREPROCESSING[self.preprocessing](images), PRECISIONS[self.precision]
        return trace_type(variables, inputs, seed=seed, dtype=dtype, devices=self.devices, **options)

    def digest(self) -> str:
        """Return a SHA-256 digest of the variables' values and the settings; another network has another digest."""
        digest = hashlib.sha256(repr((self.name, self.precision, dict(self.settings))).encode())
        for path, variable in self.variables.items():
            digest.update(path.encode())
            digest.update(variable.numpy().tobytes())
        return digest.hexdigest()

    def check_labels(self) -> None:
        """Check that the class names, if they are known, are one for each class.

        Raises:
            ValueError: There are more or fewer class names than classes.
        """
        if self.labels is not None and len(self.labels) != self.classes:
            raise ValueError(
                f"there are {len(self.labels)} class names for {self.classes} classes; expected one for each class"
            )

    def __repr__(self) -> str:
        size, count = size_text(self.image_size), self.parameter_count
        end = f"{self.classes} classes" if self.last is None else f"ends with {self.last}"
        return f"Network({self.name}, {end}, {size}, {count:,} parameters)"


def check_images(images, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Return images as a tensor [B,H,W,3], float32 by default. Raises ValueError for anything else."""
    expected = "expected a batch [B,H,W,3] of RGB images, floats in [0,1]"
    try:
        images = tf.convert_to_tensor(images)
    except (TypeError, ValueError) as error:  # no numbers, or rows of different lengths
        raise ValueError(f"images are no array of numbers ({type(images).__name__}); {expected}") from error
    if len(images.shape) != 4 or images.shape[-1] != 3:
        raise ValueError(f"images have shape {images.shape}; expected a batch [B,H,W,3] of RGB images")
    if not images.dtype.is_floating:
        raise ValueError(f"images are {images.dtype.name}; expected float RGB in [0,1]: divide bytes by 255")
    return tf.cast(images, dtype)


def check_seed(seed) -> tf.Tensor:
    """Return the seed of a pass as an int tensor [2]: [seed, 0] for a whole number. Raises ValueError for the rest."""
    try:
        found = tf.convert_to_tensor(seed)
        fits = found.dtype.is_integer and any(found.shape.is_compatible_with(shape) for shape in ((), (2,)))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(f"the seed is {shown(seed)}; expected a whole number, or an int tensor [2]")
    return tf.stack([tf.cast(found, tf.int32), 0]) if found.shape.rank == 0 else found


def check_devices(devices: Sequence[str]) -> None:
    """Raise ValueError if a device, such as "GPU:0", is not one of this machine's."""
    if not isinstance(devices, (tuple, list)) or not all(isinstance(name, str) for name in devices):
        raise ValueError(f'devices is {devices!r}; expected a list of names, such as ["GPU:0", "GPU:1"]')
    present = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()] if devices else []
    absent = [name for name in devices if name.upper().removeprefix("/").removeprefix("DEVICE:") not in present]
    if absent:
        raise ValueError(f"this machine has no device {', '.join(absent)}; it has {', '.join(present)}")
