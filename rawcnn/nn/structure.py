"""The structure of a network: what symbolic traces say about a model, without variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rawcnn.nn.trace import Operation, Parameter, layers_up_to, symbolic_trace

DOUBLINGS = 6  # from 8 pixels to 512, which every model of the zoo accepts


@dataclass(frozen=True)
class Structure:
    """The parameters and operations of a model.

    Attributes:
        parameters: Path → `Parameter`, in the order in which the model creates them; those of auxiliary heads, too.
        operations: The operations of inference, in order.
        training_operations: The same in training, with auxiliary heads.
        auxiliary: Names of the operations whose activations are logits of auxiliary heads, in training.
    """

    parameters: dict[str, Parameter]
    operations: tuple[Operation, ...]
    training_operations: tuple[Operation, ...]
    auxiliary: tuple[str, ...]


def trace_structure(
    model: Callable[..., Any], image_size: tuple[int, int], *, devices: Sequence[str] = (), last: str | None = None
) -> Structure:
    """Trace a model in training and in inference, without arithmetic.

    Args:
        model: The model function `model(net, images)`.
        image_size: The (height, width) of the images in pixels.
        devices: The devices that layers are split over.
        last: The operation to end with; None: the classifier.

    Raises:
        ValueError: The images do not fit, or the model has no operation of the name `last`.
    """
    image_shape, layers = (1, *image_size, 3), layers_up_to(last)
    training = symbolic_trace(model, image_shape, train=True, devices=devices, layers=layers)
    inference = symbolic_trace(model, image_shape, layers=layers)
    auxiliary = tuple(training.name_of(logits) for logits in training.auxiliary)
    return Structure(training.parameters, tuple(inference.operations), tuple(training.operations), auxiliary)


def complete_structure(model: Callable[..., Any], image_size: tuple[int, int]) -> Structure | None:
    """Trace a model up to its classifier, also where images of this size are too small for the layers at the end.

    Args:
        model: The model function.
        image_size: The (height, width) of the images. If they do not fit, their sides are doubled, several times.

    Returns:
        The structure; None if no such size fits.
    """
    height, width = image_size
    for power in range(DOUBLINGS + 1):
        try:
            return trace_structure(model, (height << power, width << power))
        except ValueError:  # of a layer that the images do not fit
            continue
    return None
