"""Networks that end with a layer before their classifier: what needs no logits works as before, the rest is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rawcnn
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.evaluation.predict import predict
from rawcnn.export import export
from rawcnn.visualize import (
    activation_atlas,
    deconvolve,
    input_gradient,
    objectives,
    optimize,
    top_inputs,
)
from rawcnn.visualize.class_attribution import attribution
from rawcnn.visualize.filters import activation_grid
from rawcnn.weights import describe
from rawcnn.weights.detect import detect_scheme
from tests import references
from tests.rawcnn import small

LAST = "conv2_3/relu"
REFUSED = rf"this cifar_resnet20 ends with {LAST}, so it has no classifier and no logits; .*--head skip\)"


@pytest.fixture(scope="module")
def complete():
    return rawcnn.create("cifar_resnet20", size=8, seed=3)


@pytest.fixture(scope="module")
def network():
    return rawcnn.create("cifar_resnet20", size=8, seed=3, last=LAST)


@pytest.fixture(scope="module")
def images():
    return references.random((2, 8, 8, 3), 1, low=0.0)


def test_variables_and_operations(complete, network):
    """It has those up to its last operation, with the same initial values, and no more."""
    names = [operation.name for operation in complete.operations]
    assert [operation.name for operation in network.operations] == names[: names.index(LAST) + 1]
    assert {*network.variables} == {p.path for operation in network.operations for p in operation.parameters}
    for path, variable in network.variables.items():
        np.testing.assert_array_equal(variable, complete.variables[path])
    assert network.last == LAST and complete.last is None and network.classes == 0
    assert repr(network) == "Network(cifar_resnet20, ends with conv2_3/relu, 8×8, 14,480 parameters)"
    assert network.settings["last"] == LAST and "classes" not in network.settings
    assert network.operation(LAST).receptive_field == complete.operation(LAST).receptive_field


@pytest.mark.deeper
def test_profile():
    part, whole = rawcnn.profile("vgg16", last="pool5"), rawcnn.profile("vgg16")
    assert part.rows == whole.rows[: len(part.rows)] and part.rows[-1]["name"] == "pool5"
    assert part.totals["parameters"] == 14_714_688  # the 13 convolutions with their biases
    assert part.totals["receptive_field"] == 212


def test_activations(complete, network, images):
    references.close(network.activations(images, [LAST])[LAST], complete.activations(images, [LAST])[LAST])
    references.close(*[activation_grid(one, images[0], "conv2_1") for one in (network, complete)])


@pytest.mark.deeper
def test_visualizations_are_those_of_the_complete_network(complete, network, images):
    pictures = [deconvolve(one, images, LAST, 5).pictures for one in (network, complete)]
    references.close(*pictures)
    found = [optimize(one, LAST, 5, steps=3).images for one in (network, complete)]
    references.close(*found)
    dream = [optimize(one, objectives.layer(one, LAST), steps=2).images for one in (network, complete)]
    references.close(*dream)


@pytest.mark.deeper
def test_top_inputs(complete, network, digits):
    few = small.part(digits, 60, 5)
    ours, theirs = ([t.index for t in top_inputs(one, few, LAST, [5])[5]] for one in (network, complete))
    assert ours == theirs


@pytest.mark.slow
def test_atlas(complete, network, digits):
    """Points, cells and icons are those of the complete network; there are no classes."""
    few, settings = small.part(digits, 300, 20), {"grids": (4,), "minimum": 5, "layout": "tsne", "steps": 2}
    ours, theirs = (activation_atlas(one, few, LAST, **settings) for one in (network, complete))
    references.close(ours.points, theirs.points)
    (level,), (other,) = ours.levels, theirs.levels
    np.testing.assert_array_equal(level.cells, other.cells)
    references.close(level.icons, other.icons)
    assert len(other.classes) == len(other.cells)
    assert all(len(array) == 0 for array in (level.classes, level.attributions, level.shares))


def test_what_needs_logits_is_refused(network, images, digits, tmp_path):
    labels, image = tf.constant([1, 2]), images[0]
    calls = (
        lambda: network(images),
        lambda: network.forward(images),
        lambda: network.head,
        lambda: rawcnn.program(network),
        lambda: predict(network, [tmp_path / "a.png"]),
        lambda: evaluate(network, digits),
        lambda: rawcnn.attacks.fgsm(network, images, labels, epsilon=0.1),
        lambda: rawcnn.attacks.pgd(network, images, labels, epsilon=0.1),
        lambda: rawcnn.attacks.deepfool(network, images, labels),
        lambda: rawcnn.attacks.evolve(network),
        lambda: export(network, tmp_path / "exported"),
        lambda: objectives.logit(network, 1),
        lambda: input_gradient(network, images),
        lambda: input_gradient(network, images, 1),
        lambda: attribution(network, image, LAST),
        lambda: rawcnn.explain.explain(network, image.numpy()),
        lambda: rawcnn.explain.backpropagate(network, images, labels),
    )
    for call in calls:
        with pytest.raises(ValueError, match=f"^{REFUSED}$"):
            call()
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "MODEL", "--data", "digits"),
        ("predict", "MODEL", "FILE"),
        ("attack", "fgsm", "MODEL", "--data", "digits"),
        ("attack", "evolve", "MODEL"),
        ("export", "MODEL"),
        ("explain", "MODEL", "FILE"),
        ("visualize", "saliency", "MODEL", "FILE"),
        ("visualize", "building-blocks", "MODEL", "FILE", "--layer", LAST),
    ],
    ids=" ".join,
)
def test_verbs_that_need_logits(words, picture, tmp_path, monkeypatch, rawcnn_command):
    monkeypatch.chdir(tmp_path)
    words = [{"MODEL": "cifar_resnet20", "FILE": picture}.get(word, word) for word in words]
    code, out, err = rawcnn_command(*words, "--option", f"last={LAST}", "--option", "size=8")
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and f"ends with {LAST}, so it has no classifier" in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("optimize",), ("optimize", "--channel", "1"), ("top-inputs",)], ids=" ".join)
def test_verbs_whose_default_layer_is_that_of_the_logits(words, rawcnn_command):
    model = ("cifar_resnet20", "--option", f"last={LAST}", "--option", "size=8")
    code, out, err = rawcnn_command("visualize", words[0], *model, *words[1:])
    assert code == 2 and out == ""
    assert err.endswith(f"{LAST}, so it has no logits; name a layer with --layer, such as {LAST}\n")
    assert err.count("\n") == 1


def test_training_is_refused(tmp_path, rawcnn_command):
    words = ("train", "cifar_resnet20", "--option", f"last={LAST}", "--output", tmp_path / "run")
    code, _, err = rawcnn_command(*words)
    assert code == 2 and "classes is 10, but a cifar_resnet20 that ends with conv2_3/relu has no classifier" in err


def test_weights_are_saved_and_loaded(complete, network, images, tmp_path):
    rawcnn.save_weights(network, tmp_path / "part.npz")
    rawcnn.save_weights(complete, tmp_path / "whole.npz")
    assert describe(tmp_path / "part.npz")["settings"] == network.settings
    again = rawcnn.create("cifar_resnet20", weights=tmp_path / "part.npz", seed=9)
    assert again.digest() == network.digest()
    part = rawcnn.create("cifar_resnet20", weights=tmp_path / "whole.npz", last=LAST, seed=9)
    references.close(part.activations(images, [LAST])[LAST], network.activations(images, [LAST])[LAST])
    earlier = rawcnn.create("cifar_resnet20", size=8, last="conv2_1", seed=9)
    assert rawcnn.load_weights(earlier, tmp_path / "whole.npz", head="skip") == ()
    for path, variable in earlier.variables.items():
        np.testing.assert_array_equal(variable, complete.variables[path])
    with pytest.raises(ValueError, match="classes is 10, but a cifar_resnet20 that ends with"):
        rawcnn.create("cifar_resnet20", classes=10, weights=tmp_path / "part.npz")


@pytest.mark.parametrize("file, model, problem", [
    ("cifar_resnet32", "cifar_resnet20", r"unexpected conv2_4/conv1/filters \(3, 3"),
    ("cifar_resnet20", "cifar_resnet32", "missing conv2_4/conv1/filters for"),
])  # fmt: skip
def test_weights_of_another_model_with_the_same_first_layers(file, model, problem, tmp_path):
    """What follows the network's end shows that the file is another model's. Nothing is loaded."""
    rawcnn.save_weights(rawcnn.create(file, size=8, seed=1), tmp_path / "other.npz")
    network = rawcnn.create(model, size=8, last="conv2_1", seed=2)
    before = network.digest()
    for head in ("load", "skip"):
        with pytest.raises(ValueError, match=f"does not fit {model}, nothing was loaded: .*{problem}") as error:
            rawcnn.load_weights(network, tmp_path / "other.npz", head=head)
        assert "\n" not in str(error.value)
    assert network.digest() == before


def test_weights_with_another_head_and_of_a_longer_part(complete, tmp_path):
    """A file may have another classifier, or end early itself, but after the network."""
    variables = {**complete.variables, "classifier/weights": tf.zeros((64, 7)), "classifier/bias": tf.zeros(7)}
    rawcnn.save_weights(complete, tmp_path / "head.npz", variables)
    rawcnn.save_weights(complete, tmp_path / "other_head.npz", {**complete.variables, "fc/weights": tf.zeros((64, 7))})
    longer = rawcnn.create("cifar_resnet20", size=8, seed=3, last="conv3_2")
    rawcnn.save_weights(longer, tmp_path / "longer.npz")
    for file in ("head.npz", "other_head.npz", "longer.npz"):
        network = rawcnn.create("cifar_resnet20", size=8, last=LAST, seed=9)
        rawcnn.load_weights(network, tmp_path / file)
        for path, variable in network.variables.items():
            np.testing.assert_array_equal(variable, complete.variables[path])


@pytest.mark.parametrize("model, size, last, names", [
    ("vgg_a", 32, "pool2", ("features.0.weight", "features.0.bias")),
    pytest.param("nasnet_mobile", 64, "normal_2", ("stem_conv1/kernel",), marks=pytest.mark.deeper),
    pytest.param("inception_v3", 96, "mixed_5b", ("conv2d/kernel",), marks=pytest.mark.deeper),
    pytest.param("senet154", 64, "conv2_1", ("layer0.conv1.weight",), marks=pytest.mark.deeper),
])  # fmt: skip
def test_names_in_the_files_of_other_libraries(model, size, last, names):
    """A network that ends early has the names of the complete model, also if they count what comes after its end."""
    network = rawcnn.create(model, size=size, last=last)
    found = detect_scheme(network, names)
    expected = detect_scheme(rawcnn.create(model, size=size), names).sources
    assert found.sources.keys() == network.parameters.keys() <= expected.keys()
    assert {path: s.names for path, s in (found.sources | found.after).items()} == {
        path: s.names for path, s in expected.items()
    }


def test_complete_model_at_a_size_that_its_classifier_does_not_fit():
    """conv1 reads images of 32 pixels; the last pool needs more."""
    network = rawcnn.create("alexnet_one_tower", size=32, last="conv1")
    with pytest.raises(ValueError):
        rawcnn.create("alexnet_one_tower", size=32)
    assert "fc6/weights" in network.complete.parameters and "fc6/weights" not in network.parameters


def test_other_ends():
    for last in (5, ["pool5"], b"pool5"):
        with pytest.raises(ValueError, match=r"last is .*; expected the name of an operation"):
            rawcnn.create("cifar_resnet20", size=8, last=last)
        with pytest.raises(ValueError, match=r"last is .*; expected the name of an operation"):
            rawcnn.profile("cifar_resnet20", size=8, last=last)
    for call in (rawcnn.create, rawcnn.profile):
        with pytest.raises(ValueError, match="there is no layer 'conv9'; names near it are"):
            call("cifar_resnet20", size=8, last="conv9")
    with pytest.raises(ValueError, match=r"classes is 5, but a vgg16 that ends with pool5 has no classifier"):
        rawcnn.create("vgg16", classes=5, last="pool5")


def test_profile_on_the_command_line(rawcnn_command):
    code, out, err = rawcnn_command("profile", "vgg16", "--option", "last=pool5", "--json")
    assert code == 0, err
    assert json.loads(out)["totals"]["parameters"] == 14_714_688


@pytest.mark.parametrize(
    "words",
    [
        ("optimize", "MODEL", "--layer", "conv1", "--channel", "1", "--steps", "2"),
        pytest.param(("optimize", "MODEL", "--layer", LAST, "--negative", "--steps", "2"), marks=pytest.mark.deeper),
        pytest.param(("optimize", "MODEL", "--layer", LAST, "--unit", "5:2", "--steps", "2"), marks=pytest.mark.deeper),
        pytest.param(("deconv", "MODEL", "FILE", "--layer", LAST), marks=pytest.mark.deeper),
        ("filters", "MODEL"),
        pytest.param(("top-inputs", "MODEL", "--layer", LAST, "--channel", "5"), marks=pytest.mark.deeper),
        pytest.param(("page", "MODEL", "--layer", LAST, "--channel", "5", "--steps", "2"), marks=pytest.mark.deeper),
        pytest.param(("atlas", "MODEL", "--layer", LAST, "--grid", "5", "--steps", "2"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_visualizations_on_the_command_line(words, picture, tmp_path, monkeypatch, rawcnn_command):
    monkeypatch.chdir(tmp_path)
    words = [{"MODEL": "cifar_resnet20", "FILE": picture}.get(word, word) for word in words]
    code, out, err = rawcnn_command("visualize", *words, "--option", f"last={LAST}", "--option", "size=8", "--json")
    assert code == 0, err
    assert json.loads(out)
