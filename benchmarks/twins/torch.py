"""The PyTorch twin of a network: its operations as torch.nn modules, with its weights copied.

The twin is what a PyTorch user writes for speed: Conv2d, BatchNorm2d, MaxPool2d … in channels_last memory format, under
`torch.autocast` for bfloat16. It takes images [B,H,W,3] in [0,1] and preprocesses them. PyTorch is not installed with
rawcnn; without it, importing this module fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.twins.specification import CAFFE_MEAN, DEVIATION, MEAN, Layer, ModelSpecification

Function = Callable[..., torch.Tensor]
NO_PADDING = ((0, 0), (0, 0))


def _padding(op: Layer, value: float) -> tuple[tuple[int, int] | int, Function]:
    """Return (padding of the layer, function that pads before it): PyTorch's layers pad both sides equally."""
    (top, bottom), (left, right) = op.pads
    if (top, left) == (bottom, right):
        return (top, left), lambda x: x
    return 0, lambda x: functional.pad(x, (left, right, top, bottom), value=value)


def _conv(op: Layer) -> nn.Module:
    s, (kh, kw, _, out) = op.settings, op.parameters["filters"]
    padding, before = _padding(op, 0.0)
    layer = nn.Conv2d(op.channels, out, (kh, kw), s["stride"], padding, s["dilation"], s["groups"], s["bias"])
    return nn.Sequential(_Function(before), layer) if padding == 0 and op.pads != NO_PADDING else layer


def _max_pool(op: Layer) -> nn.Module:
    padding, before = _padding(op, float("-inf"))
    return nn.Sequential(_Function(before), nn.MaxPool2d(op.settings["size"], op.settings["stride"], padding))


def _average_pool(op: Layer) -> nn.Module:
    s = op.settings
    padding, before = _padding(op, 0.0)
    if op.pads == NO_PADDING or padding != 0:
        return nn.AvgPool2d(s["size"], s["stride"], padding, count_include_pad=s["count_padding"])
    if s["count_padding"]:
        return nn.Sequential(_Function(before), nn.AvgPool2d(s["size"], s["stride"]))
    inside = torch.nn.functional.pad(torch.ones(1, 1, *op.input_shapes[0][:2]), (*op.pads[1], *op.pads[0]))
    share = functional.avg_pool2d(inside, s["size"], s["stride"])
    pool = nn.AvgPool2d(s["size"], s["stride"])
    return _Function(lambda x: pool(before(x)) / share.to(x))


def _batch_norm(op: Layer) -> nn.Module:
    s = op.settings
    layer = nn.BatchNorm2d(op.channels, s["epsilon"], 1 - s["momentum"])
    for name, learned in (("weight", s["scale"]), ("bias", s["offset"])):
        if not learned:
            getattr(layer, name).requires_grad_(False)
    return layer


def _dense(op: Layer) -> nn.Module:
    width, units = op.parameters["weights"]
    linear = nn.Linear(width, units, op.settings["bias"])
    return nn.Sequential(_Function(_flatten), linear) if len(op.input_shapes[0]) > 1 else linear


def _flatten(x: torch.Tensor) -> torch.Tensor:
    """[B,C,H,W] → [B,H·W·C], in the order of channels_last memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


def _lrn(op: Layer) -> nn.Module:
    s = op.settings
    size = 2 * s["radius"] + 1
    return nn.LocalResponseNorm(size, s["alpha"] * size, s["beta"], s["bias"])  # PyTorch divides α by the window


def _pad(op: Layer) -> nn.Module:
    (top, bottom), (left, right) = op.settings["margins"]
    return _Function(lambda x: functional.pad(x, (left, right, top, bottom)))


def _zero_padded_shortcut(op: Layer) -> nn.Module:
    s = op.settings
    sh, sw = (int(step) for step in np.broadcast_to(s["stride"], 2))
    extra = s["channels"] - op.channels
    front = extra // 2 if s["zeros"] == "both" else 0
    return _Function(lambda x: functional.pad(x[:, :, ::sh, ::sw], (0, 0, 0, 0, front, extra - front)))


def _residual_sum(op: Layer) -> nn.Module:
    scale = op.settings.get("scale")
    return _Function(lambda x, y: x + scale * y if scale else x + y)


LAYERS: dict[str, Callable[[Layer], nn.Module]] = {
    "conv": _conv,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "relu": lambda op: nn.ReLU(),
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": lambda op: _Function(lambda x: x.mean((2, 3))),
    "dropout": lambda op: nn.Dropout(op.settings["rate"]),
    "concatenate": lambda op: _Function(lambda *xs: torch.cat(xs, 1)),
    "residual_sum": _residual_sum,
    "pad": _pad,
    "sigmoid": lambda op: nn.Sigmoid(),
    "scale_channels": lambda op: _Function(lambda x, s: x * s[:, :, None, None]),
    "zero_padded_shortcut": _zero_padded_shortcut,
}
LEAVES = {  # rawcnn's last path element → the attribute of the module
    "filters": "weight",
    "weights": "weight",
    "bias": "bias",
    "scale": "weight",
    "offset": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}


def _constant(values: tuple[float, ...]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values)[:, None, None], requires_grad=False)


class _Function(nn.Module):
    def __init__(self, function: Function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Twin(nn.Module):
    """The complete network: images [B,H,W,3] in [0,1] → logits [B,classes], float32."""

    def __init__(self, model: ModelSpecification):
        super().__init__()
        self.model = model
        unknown = [op for op in model.layers if op.kind not in LAYERS]
        if unknown:
            raise ValueError(f"{unknown[0].name} is a {unknown[0].kind}; the twin knows {', '.join(LAYERS)}")
        self.layers = nn.ModuleList(LAYERS[op.kind](op) for op in model.layers)
        self.constants = nn.ParameterDict(
            {name: _constant(v) for name, v in (("mean", MEAN), ("deviation", DEVIATION), ("caffe", CAFFE_MEAN))}
        )
        module: Any = self
        module.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2)  # [B,3,H,W], already channels_last in memory
        made = {"images": self._preprocessed(x)}
        for op, layer in zip(self.model.layers, self.layers, strict=True):
            made[op.name] = layer(*(made[source] for source in op.inputs))
        return made[self.model.layers[-1].name].float()

    def _preprocessed(self, x: torch.Tensor) -> torch.Tensor:
        kind = self.model.preprocessing
        if kind == "centered":
            return x * 2 - 1
        if kind == "torch":
            return (x - self.constants["mean"]) / self.constants["deviation"]
        return x[:, [2, 1, 0]] * 255 - self.constants["caffe"] if kind == "caffe" else x

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers by the network's paths, in PyTorch's order of axes."""
        found: dict[str, torch.Tensor] = {}
        for op, layer in zip(self.model.layers, self.layers, strict=True):
            module: Any = layer[-1] if isinstance(layer, nn.Sequential) else layer
            found |= {f"{op.name}/{leaf}": getattr(module, LEAVES[leaf]) for leaf in op.parameters}
        return found

    def values(self) -> dict[str, np.ndarray]:
        """Return the values of `tensors`, in rawcnn's order of axes."""
        return {path: to_rawcnn_axes(path, tensor.detach().numpy()) for path, tensor in self.tensors().items()}

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Copy the network's weights by path: filters [kh,kw,C/groups,Cout], weights [in,out]."""
        with torch.no_grad():
            for path, tensor in self.tensors().items():
                value = _to_torch_axes(path, np.asarray(values[path]))
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _to_torch_axes(path: str, value: np.ndarray) -> np.ndarray:
    """Filters [kh,kw,C,Cout] → [Cout,C,kh,kw]; weights [in,out] → [out,in]."""
    if path.endswith("/filters"):
        return value.transpose(3, 2, 0, 1)
    return value.T if path.endswith("/weights") else value


def to_rawcnn_axes(path: str, value: np.ndarray) -> np.ndarray:
    """Convert a value or gradient: filters [Cout,C,kh,kw] → [kh,kw,C,Cout]; weights [out,in] → [in,out]."""
    if path.endswith("/filters"):
        return value.transpose(2, 3, 1, 0)
    return value.T if path.endswith("/weights") else value
