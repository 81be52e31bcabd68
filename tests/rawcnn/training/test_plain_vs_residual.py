"""The verdict on the curves of plain and residual networks."""

from __future__ import annotations

import pytest

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
