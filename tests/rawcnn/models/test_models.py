"""Every model: its counts are the papers', it gives the same results in all modes, has gradients, and can be saved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn import models
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.nn.trace import Trace, symbolic_trace
from tests import references
from tests.rawcnn.conformance import TABLE, Case
from tests.rawcnn.models import replay

CASES = [pytest.param(case, id=case.id, marks=case.marks) for case in TABLE if not case.only_counted]
FAMILIES = [pytest.param(case, id=case.id, marks=case.marks) for case in TABLE if case.representative]
PLAIN = {case.name: case for case in reversed(TABLE) if not case.only_counted}  # the first of each: without options


def test_every_model_is_in_the_table():
    assert {case.name for case in TABLE if not case.only_counted} == set(rawcnn.MODELS)


def test_every_model_file_is_reached():
    def module(function):
        return module(function.func) if isinstance(function, partial) else function.__module__

    files = {path.stem for path in Path(models.__file__).parent.glob("*.py")} - {"__init__"}
    assert {module(model.function).removeprefix("rawcnn.models.") for model in rawcnn.MODELS.values()} == files


def test_every_model_file_has_a_representative():
    def module(name):
        function = rawcnn.MODELS[name].function
        return (function.func if isinstance(function, partial) else function).__module__

    assert {module(case.name) for case in TABLE if case.representative} == {module(name) for name in rawcnn.MODELS}


@pytest.mark.sample("^[a-z0-9_]+$")  # without options
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in TABLE])
def test_counts(case):
    """At full size, by a symbolic trace, which computes nothing and creates no variable."""
    model = models.find_model(case.name)
    trace = partial(symbolic_trace, model.configured(model.classes, **case.options), (1, model.size, model.size, 3))
    inference = trace()
    training = trace(train=True) if case.heads else inference
    last = [operation for operation in inference.operations if len(operation.output_shape) == 4][-1]
    assert sum(p.count for p in training.parameters.values() if p.trained) == case.parameters
    assert sum(operation.cost.macs for operation in inference.operations) == case.macs
    assert (last.receptive_field.size, last.receptive_field.stride) == (case.field, case.stride)


@pytest.mark.slow
def test_the_thousand_layer_network_counts():
    """He et al. 2016 §4.2: 1202 layers, n = 200; 19.4 million parameters."""
    trace = symbolic_trace(partial(models.resnet.cifar_resnet, depth=1202), (1, 32, 32, 3))
    assert sum(p.count for p in trace.parameters.values() if p.trained) == 19_421_274
    assert sum(operation.cost.macs for operation in trace.operations) == 2_829_238_912


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in PLAIN.items() if case.slow or not case.representative]
)
def test_every_model_runs(case):
    """Eagerly, for one image; the tests below do more with one model per family."""
    net = rawcnn.create(case.name, classes=5, seed=3, size=case.small)
    logits = net(references.random((1, net.input_size, net.input_size, 3), 1, low=0.0))
    assert logits.shape == (1, 5) and np.isfinite(logits).all() and np.ptp(logits) > 0


@dataclass(frozen=True)
class Built:
    """A small network, the same network compiled for an unknown batch size, and the logits of its fingerprint."""

    case: Case
    network: rawcnn.Network
    images: tf.Tensor
    compiled: tf.types.experimental.PolymorphicFunction
    expected: np.ndarray


def expected_logits(case: Case, network: rawcnn.Network, images: tf.Tensor) -> np.ndarray:
    """Return the logits, float64 [B,classes], by the committed fingerprint and TensorFlow's own operations."""
    preprocessed = PREPROCESSING[network.preprocessing](tf.cast(images, tf.float64))
    return replay.logits(case.id, network.variables, preprocessed.numpy())


@pytest.fixture(scope="module", params=CASES)
def built(request):
    net = request.param.create(seed=3)
    size = net.input_size
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32)]
    compiled = tf.function(net.__call__, input_signature=signature, autograph=False)
    images = references.random((request.param.images, size, size, 3), 1, low=0.0)
    return Built(request.param, net, images, compiled, expected_logits(request.param, net, images))


def test_eager_and_graph_agree_for_any_batch(built):
    """Both have the logits of the fingerprint, which nothing of rawcnn computed."""
    eager = built.network(built.images)
    assert eager.shape == (len(built.images), 5) and eager.dtype == tf.float32
    assert np.ptp(built.expected, axis=0).max() > 0, "the logits do not depend on the image"
    references.close(eager, built.expected, built.case.comparison)
    for batch in (1, 2):
        references.close(built.compiled(built.images[:batch]), built.expected[:batch], built.case.comparison)
    assert built.compiled.experimental_get_tracing_count() == 1


def test_logits_are_those_of_the_fingerprint_in_float64(built, monkeypatch):
    monkeypatch.setattr(built.network, "precision", "float64")
    references.close_each(built.network(tf.cast(built.images, tf.float64)), built.expected, 1e-9)


@dataclass(frozen=True)
class Step:
    """A forward pass in training mode with its gradients, and the paths of the variables that it read, in order."""

    read: list[str]
    forward: rawcnn.Forward
    gradients: dict[str, tf.Tensor]


@pytest.fixture(scope="module")
def step(built):
    read = []

    def variable(self, path, *args, **settings):
        read.append(path)
        return original(self, path, *args, **settings)

    with pytest.MonkeyPatch.context() as patch, tf.GradientTape() as tape:
        original = Trace.variable
        patch.setattr(Trace, "variable", variable)
        forward = built.network.forward(built.images, train=True, seed=4)
        labels = tf.range(len(built.images)) % 5
        heads = [forward.logits, *(forward.activations[name] for name in built.network.auxiliary)]
        loss = tf.add_n([tf.reduce_mean(kernels.cross_entropy(logits, labels)) for logits in heads])
    return Step(read, forward, tape.gradient(loss, built.network.trained_variables))


def test_gradients_reach_every_trained_parameter(built, step):
    assert len(built.network.auxiliary) == built.case.heads
    trained = built.network.trained_variables
    assert list(step.gradients) == list(trained)
    assert [path for path, g in step.gradients.items() if g is None] == []
    assert [path for path, g in step.gradients.items() if g.shape != trained[path].shape] == []
    assert [path for path, g in step.gradients.items() if not np.isfinite(g).all()] == []
    # A bias may have no gradient, if its units are dropped or dead. The weights of a layer must have one.
    weights = [path for path in trained if path.endswith(("/filters", "/weights"))]
    assert [path for path in weights if not np.any(step.gradients[path])] == []


def test_variables_are_in_the_order_of_the_trace(built, step):
    assert step.read == list(built.network.variables)


def test_variables_are_float32_and_keyed_by_path(built):
    net = built.network
    assert {v.dtype for v in net.variables.values()} == {tf.float32}
    assert all(path.rsplit("/", 1)[1] in ("filters", "weights", "bias", "scale", "offset", "mean", "variance")
               for path in net.variables)  # fmt: skip
    assert {path for path, v in net.variables.items() if not v.trainable} == {
        path for path in net.variables if path.endswith(("/mean", "/variance"))
    }
    assert net.parameter_count == sum(v.numpy().size for v in net.trained_variables.values())


@pytest.fixture
def folder():
    """A folder that is deleted at once. The files are large, and pytest keeps its own folders of three runs."""
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.sample("^alexnet$")
def test_checkpoint_restores_the_values(built, folder):
    net, other = built.network, built.case.create(seed=4)
    random = [path for path in net.variables if path.endswith(("filters", "weights"))]
    assert [path for path in random if np.array_equal(net.variables[path], other.variables[path])] == []
    path = tf.train.Checkpoint(variables=dict(net.variables)).write(str(folder / "checkpoint"))
    tf.train.Checkpoint(variables=dict(other.variables)).read(path).assert_consumed()
    for path, value in net.variables.items():
        np.testing.assert_array_equal(value, other.variables[path], path)


@pytest.mark.sample("^alexnet$", "^cifar_resnet20$")
def test_saved_model_agrees(built, folder):
    exported = tf.Module()
    exported.variables_by_path = dict(built.network.variables)
    served_only = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # half the time
    tf.saved_model.save(exported, folder, signatures=built.compiled, options=served_only)
    served = tf.saved_model.load(folder).signatures["serving_default"]
    (spec,) = served.structured_input_signature[1].values()
    size = built.network.input_size
    assert spec.shape.as_list() == [None, size, size, 3]
    (logits,) = served(built.images).values()
    references.close(logits, built.expected, built.case.comparison)


@pytest.mark.sample("^alexnet$")
@pytest.mark.parametrize("case", FAMILIES)
def test_same_seed_same_values(case):
    first, again = case.create(seed=7), case.create(seed=7)
    assert list(first.variables) == list(again.variables)
    for path, value in first.variables.items():
        np.testing.assert_array_equal(value, again.variables[path], path)


@pytest.mark.sample("^alexnet$", "^cifar_resnet20$")
@pytest.mark.parametrize("case", FAMILIES)
def test_xla_agrees(case):
    net = case.create(seed=3)
    images = references.random((1, net.input_size, net.input_size, 3), 1, low=0.0)
    compiled = tf.function(net.__call__, jit_compile=True, autograph=False)
    references.close(compiled(images), expected_logits(case, net, images), case.comparison)


class Exact(Trace):
    """A trace in float64 from end to end."""

    def variable(self, path, shape, initial, **options):
        return self._variables[path]


@pytest.mark.slow
@pytest.mark.parametrize("case", FAMILIES)
def test_training_pass_is_the_same_everywhere(case):
    """Logits, dropout masks and batch statistics agree in all modes, in float64, where no rounding switches a ReLU.

    Eight images are used because the last maps may be 1×1, and batch norm over two values reduces their difference to
    its sign.
    """
    net = case.create(seed=3)
    values = {path: tf.cast(variable, tf.float64) for path, variable in net.variables.items()}
    images = references.random((8, net.input_size, net.input_size, 3), 1, "float64", low=0.0)

    def run(images):
        trace = Exact(values, images, train=True, seed=tf.constant([5, 0]), dtype=tf.float64)
        logits = net.model(trace, trace.images)
        return logits, {path: tf.cast(value, tf.float64) for path, value in trace.statistics.items()}

    references.same_everywhere(run, images, wobble=1e-6)


def test_unknown_model_and_option_list_the_known():
    similar = (
        r"there is no model 'resnet51'; similar names are resnet50, .*; `rawcnn models` or rawcnn.MODELS lists all$"
    )
    with pytest.raises(ValueError, match=similar):
        rawcnn.create("resnet51")
    for name in ("ResNet50", "resnet-50", "VGG-16", "", "xx", None, 3, ["resnet50"]):
        with pytest.raises(
            ValueError, match=r"there is no model .*`rawcnn models` or rawcnn.MODELS lists all$"
        ) as error:
            rawcnn.create(name)
        assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match=r"no option shortcuts; its options are .*shortcut='B', version='v1'"):
        rawcnn.create("resnet50", shortcuts="A")
    with pytest.raises(ValueError, match="no option width; its options are none"):
        rawcnn.create("alexnet_one_tower", width=2)
    with pytest.raises(ValueError, match="shortcut is 'D'; expected one of A, B, C"):
        rawcnn.create("resnet18", shortcut="D", size=32)
    with pytest.raises(ValueError, match=r"version is 'v2'; expected one of v1, v1\.5"):
        rawcnn.create("resnet50", version="v2", size=32)


@pytest.mark.parametrize(
    "settings", [{"classes": 0}, {"classes": -3}, {"classes": "ten"}, {"size": 0}, {"size": 2.5}, {"seed": -1}]
)
def test_numbers_out_of_range(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name} is .*; expected a (whole number|side in pixels)"):
        rawcnn.create("cifar_resnet20", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        *({"devices": value} for value in (0, None, 1.5, "CPU:0", [0], b"CPU:0")),
        *({"preprocessing": value} for value in ([1], {}, np.array(2), "x", 0)),
        *({"weights": value} for value in (0, True, [1], b"w.npz", np.array(2))),
    ],
    ids=repr,
)
def test_arguments_of_other_kinds(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name} is .*; expected "):
        rawcnn.create("cifar_resnet20", size=8, **settings)


def test_no_groups_at_all():
    for groups in (0, -2, np.int64(0)):
        with pytest.raises(ValueError, match=f"^groups is {groups}; expected a whole number, 1 or more$"):
            rawcnn.profile("alexnet", groups=groups)
    assert rawcnn.profile("alexnet", groups=np.array(1)).totals == rawcnn.profile("alexnet", groups=1).totals


@pytest.mark.parametrize(
    "name, size, layer",
    [("alexnet", 30, "pool2"), ("alexnet", 8, "conv1"), ("vgg16", 16, "pool5"), ("alexnet_one_tower", 40, "pool5")],
)
def test_too_small_an_image_names_the_layer(name, size, layer):
    with pytest.raises(ValueError, match=rf"^{layer} on \(1, \d+, \d+, \d+\): .* does not fit"):
        rawcnn.create(name, size=size)


def test_too_small_an_image_for_the_auxiliary_heads_names_their_pool():
    with pytest.raises(ValueError, match=r"^auxiliary_4a/pool on "):
        rawcnn.create("googlenet", size=64, auxiliary=True)


def test_googlenet_has_its_heads_only_in_training():
    net = rawcnn.create("googlenet", classes=5, size=80, auxiliary=True)
    images = references.random((1, 80, 80, 3), 0, low=0.0)
    inference, training = net.forward(images), net.forward(images, train=True, seed=0)
    assert not any("auxiliary" in name for name in inference.activations)
    assert net.auxiliary == ("auxiliary_4a/fc2", "auxiliary_4d/fc2")
    assert [training.activations[name].shape.as_list() for name in net.auxiliary] == [[1, 5], [1, 5]]
    assert {path.split("/")[0] for path in net.variables if path.startswith("auxiliary")} == {
        "auxiliary_4a",
        "auxiliary_4d",
    }
    without = rawcnn.create("googlenet", classes=5, size=80)
    assert without.auxiliary == ()
    references.close(without(images), inference.logits)  # seeds depend on paths, so heads do not change other variables


@pytest.mark.sample("2-2")
@pytest.mark.parametrize("groups, devices", [(2, 2), (1, 2), (2, 1), (2, 4)])
def test_alexnet_on_several_devices(groups, devices):
    """The logits on several logical CPUs, which replace the paper's two GPUs, are those on one."""
    names = [f"CPU:{i % 2}" for i in range(devices)]
    one = rawcnn.create("alexnet", classes=10, size=67, groups=groups)
    several = rawcnn.create("alexnet", classes=10, size=67, groups=groups, devices=names)
    images = references.random((1, 67, 67, 3), 0, low=0.0)
    references.close(several(images), one(images), "network")


def test_alexnet_runs_on_both_devices():
    """Each device has its own convolutions, in a compiled function, too."""
    net = rawcnn.create("alexnet", classes=10, size=67, devices=("CPU:0", "CPU:1"))
    images = references.random((1, 67, 67, 3), 0, low=0.0)
    compiled = tf.function(net.__call__, autograph=False)
    references.close(compiled(images), net(images), "network")
    operations = compiled.get_concrete_function(images).graph.get_operations()
    places = [operation.device[-5:] for operation in operations if operation.type == "Conv2D"]
    assert places.count("CPU:0") == places.count("CPU:1") == 5


def test_devices_that_cannot_share_a_layer():
    with pytest.raises(ValueError, match="devices"):
        rawcnn.create("alexnet", classes=10, size=67, devices=("CPU:0", "CPU:1", "CPU:0"))


def test_devices_that_do_not_exist():
    with pytest.raises(ValueError, match=r"no device GPU:7; it has CPU:0, CPU:1"):
        rawcnn.create("alexnet", classes=10, size=67, devices=("GPU:7", "cpu:0", "/device:CPU:1", "/CPU:0"))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnext50", {"cardinality": 0}, "cardinality is 0, width 4; expected 1 or more"),
        ("resnext50", {"cardinality": "x"}, "cardinality is 'x'; expected a value like 32"),
        ("resnext50", {"width": 2.5}, "width is 2.5; expected a value like 4"),
        ("inception_v3", {"auxiliary": 1}, "auxiliary is 1; expected a value like False"),
        ("nasnet_large", {"path_dropout": 1.5}, "path_dropout is 1.5; expected a share of 0 or more, below 1"),
        ("nasnet_mobile", {"path_dropout": "much"}, "path_dropout is 'much'; expected a value like 0.0"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        rawcnn.create(name, size=75, **options)


@pytest.mark.slow
def test_drop_path_grows_from_cell_to_cell():
    """NASNet's last cell drops the requested share of paths, the first of k cells 1/k of it."""
    trace = symbolic_trace(
        models.find_model("nasnet_mobile").configured(5, path_dropout=0.16), (1, 64, 64, 3), train=True
    )
    rates = {o.name.split("/")[0]: o.settings["rate"] for o in trace.operations if o.kind == "drop_path"}
    assert [rates[name] for name in ("stem_1", "stem_2", "normal_1", "normal_12")] == pytest.approx(
        [0.01, 0.02, 0.03, 0.16]
    )
