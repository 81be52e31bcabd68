"""The zoo: a model of `rawcnn.models` together with its variables, and with the settings that its weights need."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

from rawcnn.models import MODELS, find
from rawcnn.nn.limits import check_numbers
from rawcnn.nn.network import Network
from rawcnn.weights.detect import family_of, form_of, settings_of
from rawcnn.weights.readers import opened


def create(
    name: str,
    classes: int | None = None,
    seed: int = 0,
    *,
    size: int | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    devices: Sequence[str] = (),
    **options,
) -> Network:
    """Build the model `name` with fresh variables, drawn from `seed`.

    `size` is the side of its images in pixels, `preprocessing` its first step ("none", "centered", "torch", "caffe"),
    `precision` "float32" or "bfloat16" arithmetic over float32 variables, `devices` the devices that layers are split
    over (AlexNet's two GPUs). Further options are the model function's own keywords. ValueError where one is wrong.
    """
    model = find(name)
    classes = model.classes if classes is None else classes
    size = model.size if size is None else size
    if not all(isinstance(number, Integral) for number in (classes, size, seed)) or min(classes, size) < 1 or seed < 0:
        raise ValueError(
            f"classes is {classes!r}, size {size!r} and seed {seed!r}; expected whole positive numbers, the seed also 0"
        )
    check_numbers(size=size, classes=classes)
    reads = "none" if options.get("discretize", "none") != "none" else model.preprocessing  # levels are those of [0,1]
    preprocessing = reads if preprocessing is None else preprocessing
    if options.get("discretize", "none") != "none" and preprocessing != "none":
        raise ValueError(f'preprocessing is {preprocessing!r}; expected "none": levels are those of pixels in [0,1]')
    settings = {"classes": classes, "size": size, "preprocessing": preprocessing, **model.options, **options}
    return Network(
        name,
        model.configured(classes, **options),
        size=size,
        classes=classes,
        seed=seed,
        preprocessing=preprocessing,
        precision=precision,
        devices=devices,
        settings=settings,
    )


def published_settings(model: str, path: str | Path) -> dict[str, object]:
    """Return the arguments of `create` with which the model of a weight file was published.

    Args:
        model: The model's name.
        path: A file of published weights.

    Returns:
        Keyword arguments, such as stride, padding, preprocessing and heads; {} if the file's names do not show them.
    """
    family = family_of(MODELS[model].function) if model in MODELS else ""
    with opened(path) as tensors:
        return settings_of(form_of(tensors), model, family, tensors)
