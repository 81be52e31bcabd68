"""An exported network runs without rawcnn: TensorFlow loads a SavedModel in another process, JAX runs StableHLO."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import rawcnn
from rawcnn import export as module
from rawcnn.export import export, inference_variables, lower
from rawcnn.weights import save_weights
from tests import references
from tests.rawcnn import small
from tests.rawcnn.conformance import TABLE, Case

FAMILIES = [pytest.param(case, id=case.id, marks=case.marks) for case in TABLE if case.representative]
NAMES = ("cat", "dog", "Füchsin", "2", "<e>")
SERVED = """
import json, sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load("exported")
serve = loaded.signatures["serving_default"]
for count in (1, 3):
    answers = serve(images=tf.constant(np.load("images.npy")[:count]))
    np.savez(f"answers-{count}.npz", **{name: value.numpy() for name, value in answers.items()})
labels = loaded.signatures["labels"]()["labels"].numpy()
assert not {"rawcnn", "kernels"} & set(sys.modules)
print(json.dumps([name.decode() for name in labels]))
"""


def network_of(case: Case) -> rawcnn.Network:
    """Create a small network whose variables all differ. Batch norm's initial zeros and ones would be equal."""
    network = case.create(seed=3)
    for number, variable in enumerate(network.variables.values()):
        if len(variable.shape) == 1:
            variable.assign_add(0.2 * references.random(variable.shape, number, low=0.0))
    return network


def images_of(network: rawcnn.Network, count: int) -> tf.Tensor:
    return references.random((count, network.input_size, network.input_size, 3), 1, low=0.0)


def skip_without_jax():
    return pytest.importorskip("jax", "0.7", reason="StableHLO is run by JAX, 0.7 or later: pip install jax")


def by_jax(folder: Path, images: tf.Tensor) -> np.ndarray:
    """Run the exported function on JAX's CPU client, with nothing but the folder's content."""
    jax = skip_without_jax()
    manifest = json.loads((folder / "manifest.json").read_text())
    variables = load_file(folder / manifest["variables"])
    client = jax.devices("cpu")[0].client
    program = client.compile_and_load((folder / manifest["module"]).read_bytes(), client.local_devices()[:1])
    *read, last = manifest["arguments"]
    assert last == {"name": "images", "shape": images.shape.as_list(), "dtype": "float32"}
    (logits,) = program.execute(
        [jax.device_put(array) for array in (*(variables[a["name"]] for a in read), images.numpy())]
    )
    assert [list(logits.shape), logits.dtype] == [manifest["results"][0][key] for key in ("shape", "dtype")]
    return np.asarray(logits)


@pytest.mark.sample("cifar")
@pytest.mark.parametrize("name", ["cifar_resnet20", "alexnet"])
def test_saved_model_runs_without_rawcnn(name, tmp_path):
    network = network_of(next(case for case in TABLE if case.name == name))
    network.labels = NAMES
    images = images_of(network, 3)
    np.save(tmp_path / "images.npy", images)
    export(network, tmp_path / "exported")
    command = [sys.executable, "-I", "-c", SERVED]  # -I: neither PYTHONPATH nor this folder
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == list(NAMES)
    for count in (1, 3):
        with np.load(tmp_path / f"answers-{count}.npz") as answers:
            assert set(answers) == {"logits", "probabilities"}
            references.close(answers["logits"], network(images[:count]), "network")
            references.close(answers["probabilities"], tf.nn.softmax(network(images[:count])), "network")


@pytest.mark.sample("alexnet", "cifar_resnet20")  # XLA compiles the others for longer
@pytest.mark.parametrize("case", FAMILIES)
def test_jax_gives_the_same_logits(case, tmp_path):
    skip_without_jax()
    network = network_of(case)
    images = images_of(network, 2)
    export(network, tmp_path / "exported", "stablehlo", batch=2)
    assert b"custom_call" not in (tmp_path / "exported" / "model.mlirbc").read_bytes()  # nothing of XLA for CPUs alone
    references.close(by_jax(tmp_path / "exported", images), network(images), "network")


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", [case for case in TABLE if case.name in ("alexnet", "cifar_resnet20")])
def test_arguments_are_in_the_order_of_the_manifest(case, tmp_path):
    """Arguments are neither reordered nor pruned nor folded into the module."""
    network = case.create()
    manifest = export(network, tmp_path / "exported", "stablehlo", batch=3)
    assert json.loads((tmp_path / "exported" / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    text = lower(network, 3)
    (main,) = re.findall(r"func.func @main\((.*)\) -> (.*) \{", text)
    types = ["x".join(map(str, [*a["shape"], "f32"])) for a in (*manifest["arguments"], *manifest["results"])]
    assert re.findall(r"tensor<(\S+)>", " ".join(main)) == types
    assert len(text) < 100_000  # characters: no weights in it
    arrays = load_file(tmp_path / "exported" / "variables.safetensors")
    for argument in manifest["arguments"][:-1]:
        np.testing.assert_array_equal(arrays[argument["name"]], network.variables[argument["name"]])


def test_the_module_depends_on_the_network_alone(tmp_path):
    for folder in ("a", "b"):
        export(small.network(), tmp_path / folder, "stablehlo")
    artifact = (tmp_path / "a" / "model.mlirbc").read_bytes()
    assert artifact == (tmp_path / "b" / "model.mlirbc").read_bytes()
    assert b".py" not in artifact and b"StableHLO_v1.0.0" in artifact


def test_auxiliary_heads_are_not_exported(tmp_path):
    network = small.network(auxiliary=True)
    assert any(path.startswith("head/") for path in network.variables)
    wanted = [path for path in network.variables if not path.startswith("head/")]
    assert list(inference_variables(network)) == wanted
    export(network, tmp_path / "saved")
    names = [name for name, shape in tf.train.list_variables(str(tmp_path / "saved" / "variables" / "variables"))]
    assert len([name for name in names if name.startswith("variables_by_path")]) == len(wanted)
    assert not any("head" in name for name in names)
    export(network, tmp_path / "hlo", "stablehlo")
    assert set(load_file(tmp_path / "hlo" / "variables.safetensors")) == set(wanted)


def test_half_precision_inside_float32_outside(tmp_path):
    network = small.network(precision="bfloat16")
    images = images_of(network, 2)
    export(network, tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](images=images)
    assert served["logits"].dtype == served["probabilities"].dtype == tf.float32
    references.close(served["logits"], network(images), dtype="bfloat16")
    export(network, tmp_path / "hlo", "stablehlo", batch=2)
    assert "bf16" in lower(network)
    references.close(by_jax(tmp_path / "hlo", images), network(images), dtype="bfloat16")


WRONG = {
    "format": ({"format": "onnx"}, "format is 'onnx'; expected savedmodel or stablehlo"),
    "no images": ({"format": "stablehlo", "batch": 0}, "batch is 0; expected a whole number, 1 or more"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_wrong_input(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(small.network(), tmp_path / "exported", **options)
    assert not list(tmp_path.iterdir())


def test_class_names_must_be_as_many_as_the_classes(tmp_path):
    network = small.network()
    network.labels = NAMES
    with pytest.raises(ValueError, match="there are 5 class names for 10 classes"):
        export(network, tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_only_an_earlier_export_is_replaced(tmp_path):
    folder = tmp_path / "exported"
    folder.mkdir()  # an empty one may be written to
    export(small.network(), folder)
    export(small.network(), folder, "stablehlo")
    assert {file.name for file in folder.iterdir()} == {"manifest.json", "model.mlirbc", "variables.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    (tmp_path / "plain").mkdir()
    assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode  # what the umask gives to any folder

    (tmp_path / "file").write_text("mine")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "manifest.json").write_text('["rawcnn"]')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"name": "an application of the web"}')
    for name in ("file", "work", "other"):
        with pytest.raises(ValueError, match=f"{name} exists and is not an earlier export"):
            export(small.network(), tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "work" / "manifest.json").is_file()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"could not be written to .*new: (Not a directory|File exists)"):
        export(small.network(), tmp_path / "file" / "new")


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def tensorflow_fails(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, "variables.data: No space left on device")


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("format, owner, name, failure, error", [
    ("savedmodel", tf.saved_model, "save", tensorflow_fails, ValueError),
    ("stablehlo", module, "save_weights", full_disk, ValueError),
    ("stablehlo", module, "save_weights", interrupted, KeyboardInterrupt),
])  # fmt: skip
def test_a_failed_export_keeps_the_earlier_one(format, owner, name, failure, error, tmp_path, monkeypatch):
    export(small.network(seed=1), tmp_path / "exported", "stablehlo")
    before = {file.name: file.read_bytes() for file in (tmp_path / "exported").iterdir()}
    monkeypatch.setattr(owner, name, failure)
    for folder in ("exported", "new"):
        with pytest.raises(error, match="No space left on device" if error is ValueError else None):
            export(small.network(seed=2), tmp_path / folder, format)
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "exported").iterdir()} == before


def test_a_failed_move_puts_the_earlier_one_back(tmp_path, monkeypatch):
    export(small.network(seed=1), tmp_path / "exported", "stablehlo")
    before = (tmp_path / "exported" / "variables.safetensors").read_bytes()
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: full_disk() if self.name == "new" else rename(self, to))
    with pytest.raises(ValueError, match="No space left"):
        export(small.network(seed=2), tmp_path / "exported", "stablehlo")
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert (tmp_path / "exported" / "variables.safetensors").read_bytes() == before


def test_every_file_is_on_the_disk_before_the_folder_is_renamed(tmp_path, monkeypatch):
    synchronized: list[Path] = []
    monkeypatch.setattr(module, "synchronize", lambda path: synchronized.append(path))
    with module._replaced(tmp_path / "exported") as new:
        (new / "inner").mkdir()
        for name in ("a", "inner/b"):
            (new / name).write_text("content")
        expected = {new, new / "a", new / "inner", new / "inner/b"}
    assert {*synchronized[:-1]} == expected and synchronized[-1] == tmp_path.resolve()


def test_command_line(rawcnn_command, tmp_path):
    network = rawcnn.create("cifar_resnet20", size=8, classes=5, seed=4)
    network.labels = NAMES
    save_weights(network, tmp_path / "w.safetensors")
    words = ("export", "cifar_resnet20", "--weights", tmp_path / "w.safetensors", "--output", tmp_path / "exported")
    code, out, err = rawcnn_command(*words)
    assert code == 0 and "saved_model.pb" in out and "MB" in out and "format=savedmodel" in err, err
    images = images_of(network, 2)
    served = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"](images=images)
    references.close(served["logits"], network(images), "network")

    code, out, err = rawcnn_command(*words, "--format", "stablehlo", "--batch", 2, "--json")
    assert code == 0, err
    assert set(json.loads(out)["bytes"]) == {"manifest.json", "model.mlirbc", "variables.safetensors"}
    manifest = json.loads((tmp_path / "exported" / "manifest.json").read_text())
    assert manifest["labels"] == list(NAMES) and manifest["settings"] == network.settings
    assert manifest["arguments"][-1]["shape"] == [2, 8, 8, 3]


def test_command_line_names_what_is_wrong(rawcnn_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg16-savedmodel").mkdir()
    (tmp_path / "vgg16-savedmodel" / "thesis.tex").write_text("")
    code, _, err = rawcnn_command("export", "vgg16")
    assert code == 2 and "rawcnn: vgg16-savedmodel exists and is not an earlier export" in err
    code, _, err = rawcnn_command("export", "vgg16", "--format", "onnx")
    assert code == 2 and "rawcnn: format is 'onnx'; expected savedmodel or stablehlo" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["vgg16-savedmodel", "thesis.tex"]
