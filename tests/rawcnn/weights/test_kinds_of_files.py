"""Files of other kinds: each is named in one line that says what to do, and nothing in any file is run."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import runpy
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import rawcnn
from rawcnn.weights import load_weights
from tests.rawcnn import small
from tests.rawcnn.weights import torch_files
from tests.rawcnn.weights.test_hostile_weights import refused
from tests.rawcnn.weights.test_weights import assert_equal, values


class Call:
    """Pickles as a call of a function: what an attacker writes."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        """Make pickle take the result of a call as a function."""


def attacks(mark: Path) -> dict[str, object]:
    """Return objects whose pickles make the file `mark` if they are run."""
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "subprocess": Call(subprocess.check_call, ["touch", str(mark)]),
        "path": Call(Path.touch, mark),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "map": Call(list, Call(map, exec, [code])),
        "runpy": Call(runpy.run_path, str(mark)),
        "called": Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {mark}"),
    }


@pytest.mark.parametrize("place", ["root", "value", "key", "extra"])
@pytest.mark.parametrize("format", ["archive", "before archives", "pickle"])
def test_a_pickle_is_never_run(tmp_path, format, place):
    """Wherever the call is: as the object, in place of a tensor, as a name, or next to good weights."""
    network = small.network(seed=1)
    good = {name: torch_files.Tensor(v) for name, v in values(small.network(seed=2)).items()}
    for name, attack in attacks(tmp_path / "ran").items():
        content = {
            "root": attack,
            "value": {"conv1/filters": attack},
            "key": {"state_dict": {"conv1/filters": 1}, "extra": [(attack, {"a": attack})]},
            "extra": {"state_dict": good, "extra": attack},
        }[place]
        path = tmp_path / f"{name}.pth"
        if format == "pickle":
            if place == "extra":
                content = {**values(small.network(seed=2)), "extra": attack}
            path.write_bytes(pickle.dumps(content, 2))
        else:
            torch_files.write(content, path, archive=format == "archive")
        before = values(network)
        if place == "extra":
            load_weights(network, path)
            assert_equal(network, values(small.network(seed=2)))
        else:
            with pytest.raises(ValueError, match="holds no state dict"):
                load_weights(network, path)
            assert_equal(network, before)
        assert not (tmp_path / "ran").exists(), name


def test_pickles_that_claim_memory(tmp_path):
    """A memo position of 2³², a bytearray of 2⁴⁰, a text of 2⁴⁰ and a long chain of lists: none takes memory."""
    network = small.network(seed=1)
    for number, content in enumerate(
        (
            b"\x80\x02]r\xff\xff\xff\xff.",
            b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
            b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b".",
            b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
            b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        )
    ):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(content)
        refused(path, "holds no state dict|is damaged, or no pth file|more than fits into memory", network)


def tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"), io.BytesIO())


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def zipped(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"{}")

    return write


KINDS = {
    "tar": (tar, r"is a tar archive; unpack it and name the weights file in it"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"weights")), "is a compressed file; unpack it first"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html><p>404"), "is a web page, not weights: .* download"),
    "LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), r"with: git lfs pull"),
    "array": (lambda path: path.write_bytes(npy(np.ones(3))), r"is a single NumPy array \(.npy\)"),
    "image": (lambda path: path.write_bytes(b"\x89PNG\r\n"), "is an image, not weights"),
    "text": (
        lambda path: path.write_text("hello"),
        "is text, not weights; expected safetensors, .npz",
    ),
    "JSON": (lambda path: path.write_text('{"a": 1}'), "is JSON without a weight_map"),
    "deep JSON": (lambda path: path.write_text('{"a":' * 10**5), "nested too deep|is damaged"),
    "index": (lambda path: path.write_text('{"weight_map": {}}'), "names no shards"),
    "other folder": (
        lambda path: path.write_text('{"weight_map": {"a": "../b.safetensors"}}'),
        r"names the shard '\.\./b\.safetensors' in another folder",
    ),
    "shard": (lambda path: path.write_text('{"weight_map": {"a": "b.bin"}}'), "'b.bin', which is missing"),
    "zip": (zipped("photo.jpg"), r"is a zip archive without tensors \(it has 'photo.jpg'\); unpack it"),
    "TorchScript": (zipped("m/data.pkl", "m/constants.pkl", "m/code/a.py"), r"TorchScript program; .*torch\.jit\.load"),
    "exported": (zipped("m/archive_format", "m/models/model.json"), r"exported by torch\.export; expected its weights"),
    "package": (zipped("m/.data/extern_modules", "m/a.py"), r"is a package of code \(torch\.package\)|torch\.package"),
    "optimizer": (
        lambda path: path.write_bytes(pickle.dumps({"state": {}, "param_groups": []})),
        "holds no state dict but the state of an optimizer",
    ),
    "number": (lambda path: path.write_bytes(pickle.dumps(3)), "holds no state dict but a int"),
    "optimizer in a container": (
        lambda path: path.write_bytes(pickle.dumps({"optimizer": {"state": {}, "param_groups": []}, "epoch": 3})),
        "holds no state dict but the state of an optimizer",
    ),
    "empty": (lambda path: path.write_bytes(pickle.dumps({"state_dict": {}})), "holds no state dict but an empty dict"),
    "tensor": (lambda path: torch_files.write(torch_files.Tensor(np.ones(3)), path), "but a single tensor; expected"),
    "list": (
        lambda path: torch_files.write({"shadow_params": [torch_files.Tensor(np.ones(3))], "decay": 0.9}, path),
        "but a list of tensors without names; expected",
    ),
    "program text": (lambda path: path.write_text("import os\nos.remove('x')\n"), "is text, not weights; expected"),
    "list of checkpoints": (
        lambda path: path.write_text('model_checkpoint_path: "ckpt-1"\n'),
        "is a TensorFlow folder's list of checkpoints; name the folder",
    ),
    "SavedModel": (lambda path: path.write_bytes(b"\x08\x01\x12\x00\xff"), "program of a SavedModel; name the folder"),
    "noise": (lambda path: path.write_bytes(bytes(range(255, 0, -1))), "is not a weights file, judging by its content"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_names_the_kind(tmp_path, kind, rawcnn_command):
    write, message = KINDS[kind]
    write(tmp_path / "weights.file")
    refused(tmp_path / "weights.file", message)
    code, out, err = rawcnn_command("weights", "show", tmp_path / "weights.file")
    assert code == 2 and out == "" and "Traceback" not in err


@pytest.mark.sample(4)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("ending", [".pth", ".pkl", ".ckpt"])
def test_every_protocol_of_pickle(tmp_path, protocol, ending):
    """Protocols 0 and 1 have no mark. Arrays are read, and a call is named and not run."""
    path, network = tmp_path / f"w{ending}", small.network(seed=1)
    path.write_bytes(pickle.dumps({"state_dict": values(small.network(seed=2)), "epoch": 3}, protocol))
    load_weights(network, path)
    assert_equal(network, values(small.network(seed=2)))
    for content in (Call(os.system, f"touch {tmp_path / 'ran'}"), {"a": Call(eval, "1")}):
        path.write_bytes(pickle.dumps(content, protocol))
        refused(path, r"holds no state dict but an object of \w+\.(system|eval), which is not run", network)
    assert not (tmp_path / "ran").exists()


def test_parts_of_checkpoints(tmp_path):
    """One of the files of a TensorFlow checkpoint, names of TF-Slim, and a folder of PyTorch's distributed ones."""
    network = small.network(seed=1)
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(tmp_path / "whole" / "ckpt")
    for place, name, message in (
        ("a", "ckpt.index", r"a.ckpt.index lacks its values: ckpt.data-00000-of-00001 is missing; put it next to"),
        ("b", "ckpt.data-00000-of-00001", r"is a part of a TensorFlow checkpoint, whose ckpt.index is missing; put it"),
    ):
        (tmp_path / place).mkdir()
        shutil.copy(tmp_path / "whole" / name, tmp_path / place / name)
        refused(tmp_path / place / name, message, network)
    names = {"net/conv1/weights": np.ones(3, np.float32), "net/logits/biases": np.ones(3, np.float32)}
    tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in names.items()}).write(tmp_path / "slim")
    refused(tmp_path / "slim", "names are TF-Slim's, such as net/logits/biases, which are not read; expected", network)
    (tmp_path / "distributed").mkdir()
    (tmp_path / "distributed" / ".metadata").write_bytes(b"")
    refused(tmp_path / "distributed", "is a distributed checkpoint of PyTorch; join it first with: python -m", network)


def test_a_whole_module(tmp_path):
    """Its class is named, and not looked up. Weights next to it are read."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for archive in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(module, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
            torch.save({"model": module, "ema": None}, tmp_path / "nested.pth", _use_new_zipfile_serialization=archive)
        message = r"holds a whole pickled module \(torch\.nn\.modules\.container\.Sequential\), whose code .*state_dict"
        refused(tmp_path / "w.pth", message)
        refused(tmp_path / "nested.pth", message)


def test_torchscript(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Conv2d(3, 4, 3)).save(tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"is a TorchScript program; expected its weights: torch\.save\(torch\.jit\.load")


def test_tensors_as_pytorch_reads_them(tmp_path):
    """Every type, layout and view of a real file has the values that PyTorch reads, in both formats."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from rawcnn.weights.readers import open_tensors

    generator = torch.Generator().manual_seed(0)
    base = torch.randn((4, 3, 5, 5), generator=generator)
    state = {
        "a.float32": base,
        "a.float16": base.half(),
        "a.bfloat16": base.bfloat16(),
        "a.float64": base.double(),
        "a.int64": torch.arange(5),
        "a.bool": torch.tensor([True, False]),
        "a.uint16": torch.ones(3, dtype=torch.uint16),
        "a.channels_last": base.to(memory_format=torch.channels_last),
        "a.view": base[1:, :, ::2, 1],
        "a.transposed": base.transpose(0, 3),
        "a.expanded": torch.ones(1).expand(4, 2),
        "a.empty": torch.ones(0, 3),
        "a.scalar": torch.tensor(2.5),
        "a.parameter": torch.nn.Parameter(base),
        "a.buffer": torch.nn.Buffer(base[0]),
    }
    for archive in (True, False):
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
        with open_tensors(tmp_path / "w.pth") as tensors:
            assert {*tensors} == {*state}
            for name, tensor in state.items():
                stored = tensors[name]
                assert (stored.shape, stored.dtype) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
                if name == "a.uint16":
                    continue  # no floating point numbers: never read
                expected = tensor.detach().float() if name == "a.bfloat16" else tensor.detach()
                read = stored.read()
                np.testing.assert_array_equal(read.astype(np.float32) if name == "a.bfloat16" else read, expected)


def test_keras_files(tmp_path):
    """A model inside another, whole models, .keras archives, shards, and models without their classifier."""
    import keras

    keras.backend.clear_session()
    network = rawcnn.create("cifar_resnet20", classes=3, size=8, preprocessing="none")
    expected, fresh = values(rawcnn.create("cifar_resnet20", classes=3, size=8, seed=5)), values(network)
    images = keras.Input((8, 8, 3))
    base = keras.Model(images, _keras_resnet20(images), name="backbone")
    outer = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(3, name="predictions")(keras.layers.GlobalAveragePooling2D()(base(outer)))
    model = keras.Model(outer, logits)
    _assign(base, model, expected)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)  # its state is in the files, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_weights(tmp_path / "a.weights.h5")
        model.save_weights(tmp_path / "b.weights.json", max_shard_size=0.0002)
        model.save(tmp_path / "c.keras")
        model.save(tmp_path / "d.h5")
        base.save_weights(tmp_path / "headless.weights.h5")
        tf.train.Checkpoint(model=model).write(tmp_path / "e" / "ckpt")
    assert len(list(tmp_path.glob("b_*.weights.h5"))) > 2
    for name in ("a.weights.h5", "b.weights.json", "c.keras", "d.h5", "e/ckpt", "e/ckpt.index"):
        for path, value in fresh.items():
            network.variables[path].assign(value)
        load_weights(network, tmp_path / name)
        for path, value in expected.items():
            np.testing.assert_allclose(network.variables[path], value, atol=2e-8, err_msg=f"{name}: {path}")
    with pytest.raises(ValueError, match=r'missing predictions/kernel .*with head="skip" \(--head skip\)$'):
        load_weights(network, tmp_path / "headless.weights.h5")
    assert load_weights(network, tmp_path / "headless.weights.h5", head="skip") == (
        "classifier/weights",
        "classifier/bias",
    )
    renamed = tmp_path / "weights"  # by its content
    renamed.write_bytes((tmp_path / "c.keras").read_bytes())
    load_weights(network, renamed)


def _keras_resnet20(x):
    """Return the layers of a CIFAR ResNet-20 under keras.applications' names; they compute something else."""
    import keras

    for place, width in [("conv1", 16)] + [
        (f"conv{stage}_block{block}_{n}", 8 * 2**(stage - 1))
        for stage in (2, 3, 4) for block in (1, 2, 3) for n in (1, 2)
    ]:  # fmt: skip
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{place}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{place}_bn")(x)
    return x


def _assign(base, model, expected) -> None:
    """Give a Keras model the values of rawcnn's variables; the variance without the difference of the two ε."""
    from tests.rawcnn.weights.test_checkpoints import keras_names

    for name, value in keras_names(expected).items():
        layer, leaf = name.split("/")
        layer = (model if layer == "predictions" else base).get_layer(layer)
        {v.name: v for v in layer.weights}[leaf].assign(value)


def test_an_index_of_several_kinds(tmp_path):
    """pytorch_model.bin.index.json: the shards may be of any kind that is read."""
    arrays = values(small.network(seed=2))
    first, second = dict([*arrays.items()][:4]), dict([*arrays.items()][4:])
    save_file(first, tmp_path / "a.bin")
    torch_files.write({k: torch_files.Tensor(v) for k, v in second.items()}, tmp_path / "b.bin")
    index = {"weight_map": {**dict.fromkeys(first, "a.bin"), **dict.fromkeys(second, "b.bin")}}
    (tmp_path / "model.index.json").write_text(json.dumps(index))
    network = small.network(seed=1)
    load_weights(network, tmp_path / "model.index.json")
    assert_equal(network, arrays)
