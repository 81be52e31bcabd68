"""The result of an attack: original, difference and attacked image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rawcnn.notebook.pictures import DPI, class_numbers

if TYPE_CHECKING:
    from rawcnn.attacks import AttackResult


EXAMPLES = 3  # rows of the picture


def text(result: AttackResult) -> str:
    """Say how successful an attack was."""
    if not len(result.labels):
        return f"{type(result).__name__}(0 images)"
    found = result.summary()
    rate = "none attempted" if found["success_rate"] is None else f"success {found['success_rate']:.1%}"
    return (
        f"{type(result).__name__}({found['images']} images: accuracy {found['accuracy_before']:.1%} → "
        f"{found['accuracy_after']:.1%}, {rate}, largest change of a pixel {found['max_linf']:.3g})"
    )


def png(result: AttackResult) -> bytes | None:
    """Draw the first images, those that fool the network before the others: original, difference and attacked image."""
    from dataclasses import fields, replace

    import numpy as np

    from rawcnn.plots import figures

    if not len(result.labels):
        return None
    first = np.argsort(~(result.success & ~result.already_wrong), kind="stable")[:EXAMPLES]
    arrays: dict[str, Any] = {f.name: getattr(result, f.name) for f in fields(result)}
    arrays = {name: None if value is None else value[first] for name, value in arrays.items()}
    shown = replace(result, **arrays)
    classes = int(max(shown.predictions.max(), shown.predictions_before.max())) + 1
    return figures.encoded(figures.examples(shown, class_numbers(classes), EXAMPLES), dpi=DPI)
