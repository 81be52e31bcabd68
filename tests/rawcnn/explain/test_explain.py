"""The public names of `rawcnn.explain`; tests/rawcnn/nn/test_backpropagation.py checks the gradients."""

from __future__ import annotations

import numpy as np

import rawcnn
from tests.benchmarks import toys


def test_backpropagate_is_public():
    network = toys.toy()
    back = rawcnn.explain.backpropagate(network, *toys.batch(network))
    assert isinstance(back, rawcnn.explain.Backward)
    assert back.loss.shape == () and back.parameters.keys() == network.trained_variables.keys()
    names = {operation.name: operation.output_shape for operation in network.operations}
    assert {name: gradient.shape[1:] for name, gradient in back.activations.items() if name != "images"} == {
        name: shape[1:] for name, shape in names.items()
    }
    assert np.any(back.activations["images"])
