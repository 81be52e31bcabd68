"""The verdict on the curves of plain and residual networks."""

from __future__ import annotations

import pytest

from rawcnn.plots import figures
from rawcnn.training.plain_vs_residual import networks, verdict


def histories(**errors):
    """name → one epoch with this training error in percent."""
    return {f"cifar_{name}": [{"train_accuracy": 1 - error / 100}] for name, error in errors.items()}


@pytest.mark.parametrize(
    "shallow, deep, word", [(20.0, 45.0, "hurts"), (20.0, 12.5, "helps"), (20.0, 20.9, "makes no difference")]
)
def test_verdict(shallow, deep, word):
    told = verdict(histories(plain20=30.0, plain56=60.0, resnet20=shallow, resnet56=deep))
    assert told == (
        "plain: depth hurts, training error 60.0 % at 56 layers, 30.0 % at 20; "
        f"resnet: depth {word}, training error {deep} % at 56 layers, {shallow} % at 20"
    )


def test_networks():
    assert networks((20, 56)) == ["cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_curves_show_the_split_that_each_epoch_evaluates(split):
    summary = {"epoch": 1, "train_accuracy": 0.5, f"{split}_accuracy": 0.4}
    last = {**summary, "epoch": 2, "test_accuracy": 0.3}  # the test images are evaluated at the end
    figure = figures.depth_curves({f"cifar_{kind}20": [summary, last] for kind in ("plain", "resnet")})
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["20 layers, train", f"20 layers, {split}"]
