"""A network's operations as JSON types. The twins are built from them, also without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawcnn.nn.network import Network

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, torchvision's values
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of bytes, blue first
Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Layer:
    """One operation of a network."""

    name: str
    kind: str
    inputs: tuple[str, ...]  # names of the layers that it reads; "images" is the input
    input_shapes: tuple[tuple[int, ...], ...]  # without the batch
    output_shape: tuple[int, ...]
    parameters: dict[str, tuple[int, ...]]  # "filters" → its shape, …
    settings: dict[str, Any]
    pads: Pads  # ((top, bottom), (left, right)) in pixels, computed from `settings["padding"]`

    @property
    def channels(self) -> int:
        """The channels of the first input."""
        return self.input_shapes[0][-1]


@dataclass(frozen=True)
class ModelSpecification:
    """A network without its weights."""

    name: str
    size: tuple[int, int]  # height and width of the images
    classes: int
    preprocessing: str
    layers: tuple[Layer, ...]
    trained: tuple[str, ...]  # paths of the trained variables, "conv1/filters", …

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def paths(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all variables by path."""
        return {f"{layer.name}/{leaf}": shape for layer in self.layers for leaf, shape in layer.parameters.items()}

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_model(text: str) -> ModelSpecification:
    """Read the text that `ModelSpecification.to_json` returns."""
    plain = json.loads(text)
    plain |= {key: tuple(plain[key]) for key in ("size", "trained")}
    layers = [Layer(**{**layer, "inputs": tuple(layer["inputs"])}) for layer in plain.pop("layers")]
    return ModelSpecification(**{**plain, "layers": tuple(_tuples(layer) for layer in layers)})


def _tuples(layer: Layer) -> Layer:
    """Convert lists to tuples, because JSON has only lists."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(convert(v) for v in value)
        return {key: convert(v) for key, v in value.items()} if isinstance(value, dict) else value

    return Layer(**{key: convert(value) for key, value in vars(layer).items()})


def model_of(network: Network) -> ModelSpecification:
    """Return the specification of a network.

    Raises:
        ValueError: If a variable belongs to none of the operations, such as those of GoogLeNet's auxiliary heads.
    """
    layers = []
    for operation in network.operations:
        settings: dict[str, Any] = operation.settings
        parameters = {parameter.path: parameter.shape for parameter in operation.parameters}
        layers.append(
            Layer(
                operation.name,
                operation.kind,
                operation.inputs,
                tuple(shape[1:] for shape in operation.input_shapes),
                operation.output_shape[1:],
                {path.rsplit("/", 1)[1]: shape for path, shape in parameters.items()},
                settings,
                _pads(settings, operation.input_shapes[0][1:3], operation.parameters),
            )
        )
    model = ModelSpecification(
        network.name, network.image_size, network.classes, network.preprocessing, tuple(layers),
        tuple(network.trained_variables),
    )  # fmt: skip
    if rest := [path for path in network.variables if path not in model.paths]:
        raise ValueError(
            f"{rest[0]} is only used in training; the twins have no auxiliary heads: create the network without"
        )
    return model


def _pads(settings: dict[str, Any], image: Sequence[int], parameters: Sequence[Any]) -> Pads:
    from kernels.geometry import window_padding

    if "padding" not in settings:
        return (0, 0), (0, 0)
    window = settings["size"] if "size" in settings else parameters[0].shape[:2]
    return window_padding(settings["padding"], image, window, settings["stride"], settings.get("dilation", 1))
