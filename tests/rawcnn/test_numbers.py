"""Numbers and indices of public functions: NumPy's are taken, booleans, floats and text are refused in one line."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

import rawcnn
import rawcnn.visualize as V
from rawcnn.data import load
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.evaluation.multicrop import scales_for
from rawcnn.export import check
from rawcnn.visualize import objectives
from rawcnn.visualize.interpretability import semantic_dictionary
from tests import references
from tests.rawcnn import small

IMAGES = references.random((2, 8, 8, 3), 1, low=0.0).numpy()
LAYER = "conv2"
NOT_WHOLE = [True, 2.0, "2", np.float32(2), np.bool_(True), -1, [1.5], None, 1j]
WHOLE = [2, np.int64(2), np.uint8(2), np.array(2)]


def calls(network, data):
    """function(value) for each argument that is a whole number or an index, by name; each may be 2."""
    optimize = partial(V.optimize, network, LAYER, steps=1)
    excite = partial(V.excitations, network, data, LAYER)
    top = [V.TopInput(0, 0, 1.0, (0, 0), (0, 0, 2, 2), IMAGES[0])]
    return {
        "optimize channel": lambda v: optimize(channel=[v]),
        **{
            f"optimize {a}": lambda v, a=a: optimize(**{"channel": 1, a: v})
            for a in ("count", "batch", "frames", "seed")
        },
        "optimize steps": lambda v: V.optimize(network, LAYER, 1, steps=v, frames=0),
        "deconvolve channel": lambda v: V.deconvolve(network, IMAGES, LAYER, [1, v], compile="eager"),
        "deconvolve position": lambda v: V.deconvolve(network, IMAGES, LAYER, 1, (v, 1), compile="eager"),
        "top inputs channels": lambda v: V.top_inputs(network, data, LAYER, [v], 2),
        "top inputs count": lambda v: V.top_inputs(network, data, LAYER, [1], v),
        "top inputs batch": lambda v: V.top_inputs(network, data, LAYER, [1], 2, batch=v),
        "excitations position": lambda v: excite([1], 2, position=(1, v)),
        "excitations sample": lambda v: excite([1], 2, sample=v),
        "contact sheet tile": lambda v: V.contact_sheet(top, tile=v),
        "contact sheet columns": lambda v: V.contact_sheet(top, columns=v) if v is not None else V.grid([], v),
        "attribution classes": lambda v: V.attribution(network, IMAGES[0], LAYER, [v], compile="eager"),
        "gradient classes": lambda v: V.input_gradient(network, IMAGES, [v, 0], compile="eager"),
        "smooth gradient samples": lambda v: V.smooth_gradient(network, IMAGES, samples=v, compile="eager"),
        "integrated gradients steps": lambda v: V.integrated_gradients(network, IMAGES, steps=v, compile="eager"),
        "dictionary top": lambda v: semantic_dictionary(network, IMAGES[0], LAYER, top=v),
        "neuron groups seed": lambda v: V.neuron_groups(network, IMAGES[0], LAYER, 2, seed=v),
        "activation grid channels": lambda v: V.activation_grid(network, IMAGES[0], LAYER, channels=[v]),
        "activation grid gap": lambda v: V.activation_grid(network, IMAGES[0], LAYER, gap=v),
        "enlarge scale": lambda v: V.enlarge(IMAGES[0], v),
        "fit size": lambda v: V.fit(IMAGES[0], v),
        "draw box width": lambda v: V.draw_box(IMAGES[0], (0, 0, 6, 6), width=v),
        "draw box edge": lambda v: V.draw_box(IMAGES[0], (0, 0, v, 6)) if v != -1 else V.draw_box(IMAGES[0], (v,)),
        "logit": lambda v: objectives.logit(network, [v]),
        "neuron position": lambda v: objectives.neuron(network, LAYER, 1, (0, v)),
        "weighted units": lambda v: objectives.weighted_units(
            network, LAYER, {(v if np.isscalar(v) else 2 if isinstance(v, np.ndarray) else 0.5): 1.0}
        ),
        "diversity group": lambda v: objectives.diversity(network, LAYER, v),
        "create classes": lambda v: rawcnn.create("cifar_resnet20", v if v is not None else 0.0),
        "create seed": lambda v: rawcnn.create("cifar_resnet20", seed=v, size=8),
        "create size": lambda v: rawcnn.create("cifar_resnet20", size=(8, v)),
        "profile batch": lambda v: rawcnn.profile("cifar_resnet20", batch=v),
        "profile size": lambda v: rawcnn.profile("cifar_resnet20", size=(v, 8)),
        "export batch": lambda v: check("/tmp/never-written", "savedmodel", v if v is not None else "none"),
        "load size": lambda v: load("digits", size=(v, 8)),
        "data batch": lambda v: next(iter(data.batches("train", v))),
        "data epoch": lambda v: next(iter(data.batches("train", 2, epoch=v))),
        "data take": lambda v: data.take("train", [v]),
        "evaluate batch": lambda v: evaluate(network, data, batch=v),
        "scales": lambda v: scales_for(network, "dense", [v]),
    }


@pytest.fixture(scope="module")
def functions(digits):
    return calls(small.network(), small.part(digits, 20, 10))


NAMES = [
    *("optimize channel", "optimize count", "optimize batch", "optimize frames", "optimize seed", "optimize steps"),
    *("deconvolve channel", "deconvolve position", "top inputs channels", "top inputs count", "top inputs batch"),
    *("excitations position", "excitations sample", "contact sheet tile", "contact sheet columns"),
    *("attribution classes", "gradient classes", "smooth gradient samples", "integrated gradients steps"),
    *("dictionary top", "neuron groups seed", "activation grid channels", "activation grid gap", "enlarge scale"),
    *("fit size", "draw box width", "draw box edge", "logit", "neuron position", "weighted units", "diversity group"),
    *("create classes", "create seed", "create size", "profile batch", "profile size", "export batch", "load size"),
    *("data batch", "data epoch", "data take", "evaluate batch", "scales"),
]


@pytest.mark.parametrize("name", NAMES)
def test_others_are_refused_in_one_line(functions, name):
    for value in NOT_WHOLE:
        with pytest.raises(ValueError) as error:
            functions[name](value)
        text = str(error.value)
        assert "\n" not in text and len(text) < 250, text
        assert re.search(r"expected|needs|has (channels|classes) 0 to \d+$", text), text


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_of_all_libraries_are_taken(functions, name):
    for value in WHOLE:
        functions[name](value)
