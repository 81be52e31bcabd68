"""Hostile weight files: each is refused with one line before it is read, and the network does not change."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import rawcnn
from rawcnn.weights import Misfit, describe, load_weights, save_weights
from rawcnn.weights.arrays import DESCRIPTION, DESCRIPTION_BYTES
from rawcnn.weights.readers import open_tensors
from rawcnn.weights.torch_names import sources
from tests.rawcnn import small
from tests.rawcnn.weights.test_weights import assert_equal, values


def refused(path, message, network=None):
    network = network or small.network(seed=1)
    before = values(network)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network, path)
    assert len(str(error.value).splitlines()) == 1
    assert_equal(network, before)


def test_a_zip_bomb(tmp_path):
    """Less than a megabyte that unpacks to 256 MiB, under a name that the network has. Only the header is read."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1/filters.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**13, 2**13)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(16):
            file.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    with measured_memory() as peak:
        refused(path, r"conv1/filters is \(8192, 8192\), expected \(3, 3, 3, 8\)")
    assert peak() < 2**26


def test_a_bomb_behind_a_right_header(tmp_path):
    """256 MiB follow a header of the right shape."""
    path, arrays = tmp_path / "bomb.npz", values(small.network(seed=2))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, value)
                for _ in range(16 if name == "conv1/filters" else 0):
                    file.write(bytes(2**24))
    with measured_memory() as peak:
        refused(path, r"would unpack conv1/filters\.npy to 268,43\d,\d+ bytes; its header claims 992")
    assert peak() < 2**26


def test_a_bomb_in_the_header(tmp_path):
    """The header is 256 MiB of spaces, of which 16 KiB are unpacked."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1/filters.npy", "w") as file:
        file.write(b"\x93NUMPY\x02\x00" + (2**28).to_bytes(4, "little"))
        for _ in range(16):
            file.write(b" " * 2**24)
    with measured_memory() as peak:
        refused(path, "is damaged, or no npz file")
    assert peak() < 2**26


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize(
    "metadata",
    ["[1, 2]", '{"settings": [1]}', '{"labels": 3}', '{"network": 5}', "{", "[" * 10**5, "1" * 10**4],
    ids=lambda metadata: metadata[:20],
)
def test_crafted_metadata(tmp_path, metadata, ending):
    path = tmp_path / f"w.{ending}"
    if ending == "npz":
        np.savez(path, **{DESCRIPTION: np.frombuffer(metadata.encode(), np.uint8)})
    else:
        save_file(values(small.network()), path, metadata={"rawcnn": metadata})
    with pytest.raises(ValueError, match=r"metadata about its network that (rawcnn never writes|is not JSON)") as error:
        describe(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "metadata, message",
    [
        (np.array('{"network": "small"}'), r"has <U20 \(\) in rawcnn\.json, .* metadata; expected a text of at most"),
        (np.zeros((2, 2), np.uint8), r"uint8 \(2, 2\) in .*; expected a text"),
        (np.array([{}], dtype=object), r"holds pickled Python objects in rawcnn\.json\.npy"),
        (np.array([0xFF, 0xFE], np.uint8), r"is damaged, or no npz file"),
    ],
    ids=["text", "square", "pickle", "no UTF-8"],
)
def test_damaged_metadata_in_an_npz(tmp_path, metadata, message):
    arrays: dict = {**values(small.network()), DESCRIPTION: metadata}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        describe(tmp_path / "w.npz")
    assert len(str(error.value).splitlines()) == 1


def test_a_bomb_in_the_metadata(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{DESCRIPTION}.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**27,)})
        for _ in range(8):
            file.write(b" " * 2**24)
    message = f"expected a text of at most {DESCRIPTION_BYTES:,}"
    with measured_memory() as peak, pytest.raises(ValueError, match=message):
        describe(path)
    assert peak() < 2**26


def test_values_that_are_not_finite(tmp_path):
    arrays = values(small.network(seed=2))
    arrays["conv2/filters"][0, 0, 0, 0] = np.nan
    arrays["conv2/bias"][3] = np.inf
    save_file(arrays, tmp_path / "w.safetensors")
    refused(
        tmp_path / "w.safetensors", "conv2/filters has values that are not finite; conv2/bias has values that are not"
    )


def test_negative_variances(tmp_path):
    """The message uses the name that the tensor has in its file."""
    arrays = values(small.network(seed=2))
    arrays["conv1/bn/variance"][[2, 5]] = -1e-3
    save_file(arrays, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", "conv1/bn/variance has 2 of 8 variances below zero, expected none$")
    network = rawcnn.create("cifar_resnet20", classes=3, size=8)
    state = {}
    for source in sources(network, "resnet", ()).values():
        (name,), (shape,) = source.names, source.shapes
        state[name] = np.zeros(shape, np.float32)
    save_file(state, tmp_path / "valid.safetensors")  # a variance may be zero
    load_weights(network, tmp_path / "valid.safetensors")
    state["layer2.0.bn1.running_var"] -= 1
    save_file(state, tmp_path / "torch.safetensors")
    message = r"nothing was loaded: layer2\.0\.bn1\.running_var has 32 of 32 variances below zero, expected none$"
    refused(tmp_path / "torch.safetensors", message, network)


def test_predictions_that_are_not_finite(tmp_path, rawcnn_command):
    """The weights are finite, but their sums are not: one line for all images, and no prediction."""
    network = rawcnn.create("cifar_resnet20", classes=3, size=8)
    network.variables["classifier/weights"].assign(np.full((64, 3), 3e38, np.float32))
    network.variables["classifier/bias"].assign(np.full(3, 3e38, np.float32))
    save_weights(network, tmp_path / "w.npz")
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / f"{name}.png")
    images = (tmp_path / "a.png", tmp_path / "b.png")
    code, out, err = rawcnn_command("predict", "cifar_resnet20", *images, "--weights", tmp_path / "w.npz", "--json")
    assert code == 2 and out == ""
    said = " ".join(err.split())
    assert said.count("are not finite") == 1 and "its weights are damaged or " in said


def test_an_empty_file_and_a_folder(tmp_path):
    (tmp_path / "w.h5").touch()
    refused(tmp_path / "w.h5", r"w\.h5 is empty; expected a weights file")
    (tmp_path / "f.h5").mkdir()
    refused(tmp_path / "f.h5", r"f\.h5 is a folder; expected a weights file")


def test_an_h5_that_claims_a_million_million_elements(tmp_path):
    """A chunked data set takes no space until it is written. Its shape is refused before anything is read."""
    path = tmp_path / "claims.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"block1_conv1/kernel:0"]
        group.create_dataset("block1_conv1/kernel:0", (10**6, 10**6), "f4", chunks=(1024, 1024))
    net = rawcnn.create("vgg_a", classes=2, size=32)
    with measured_memory() as peak:
        refused(path, r"block1_conv1/kernel is \(1000000, 1000000\), expected \(3, 3, 3, 64\)", net)
    assert peak() < 2**26


@contextmanager
def measured_memory():
    """Yield a function that returns the peak of the memory that Python and NumPy allocated."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def h5_with(path, link):
    """Write a legacy file of one layer, whose kernel `link(group)` creates."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"kernel:0"]
        link(group)
    return path


def test_an_h5_that_points_elsewhere(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.zeros((3, 3, 3, 64), np.float32)
    (tmp_path / "raw").write_bytes(bytes(3 * 3 * 3 * 64 * 4))
    layout = h5py.VirtualLayout((3, 3, 3, 64), "f4")
    layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "secret", (3, 3, 3, 64))
    outside = [(str(tmp_path / "raw"), 0, 3 * 3 * 3 * 64 * 4)]
    links = {
        "link": lambda g: g.__setitem__("kernel:0", h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")),
        "virtual": lambda g: g.create_virtual_dataset("kernel:0", layout),
        "external": lambda g: g.create_dataset("kernel:0", (3, 3, 3, 64), "f4", external=outside),
    }
    for name, link in links.items():
        path = h5_with(tmp_path / f"{name}.h5", link)
        refused(path, "points into another file", rawcnn.create("vgg_a", classes=2, size=32))
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "link.h5"), "/")
    refused(tmp_path / "model.h5", "points into another file", rawcnn.create("vgg_a", classes=2, size=32))


@pytest.mark.parametrize("ending", ["h5", "weights.h5"])
@pytest.mark.parametrize("left", [0, 5, 300, 2000])
def test_a_truncated_h5(tmp_path, ending, left):
    path = tmp_path / f"damaged.{ending}"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/conv2d/vars/0", data=np.ones((3, 3, 3, 64), np.float32))
    path.write_bytes(path.read_bytes()[:left])
    refused(path, r"is damaged, or no h5 file: it cannot be read as one|is not in Keras's" if left else "is empty")


def test_an_h5_of_another_kind(tmp_path):
    """It is read by the names of its data sets."""
    for ending in ("h5", "weights.h5"):
        with h5py.File(tmp_path / f"other.{ending}", "w") as file:
            file["data"] = np.ones(3)
        refused(tmp_path / f"other.{ending}", r"names follow no known scheme \(data\)")
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 3, 8), np.float32)
    refused(tmp_path / "old.weights.h5", "has no names of its layers; save it again with")


def test_half_precision_is_widened(tmp_path):
    arrays = {k: v.astype(np.float16) for k, v in values(small.network(seed=2)).items()}
    save_file(arrays, tmp_path / "half.safetensors")
    net = small.network(seed=1)
    load_weights(net, tmp_path / "half.safetensors")
    assert_equal(net, {k: v.astype(np.float32) for k, v in arrays.items()})


def test_names_of_no_known_scheme(tmp_path):
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", r"follow no known scheme \(a\); expected rawcnn's, Keras's or PyTorch's")
    save_file({}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", r"follow no known scheme \(none at all\)")


def test_the_message_lists_the_first_of_many_problems(tmp_path):
    arrays = values(rawcnn.create("cifar_resnet20", seed=2))
    gone = [name for name in arrays if name.startswith("conv3_")][:30]
    for name in gone:
        arrays[f"other{name}"] = arrays.pop(name)
    save_file(arrays, tmp_path / "w.safetensors")
    with pytest.raises(Misfit) as error:
        load_weights(rawcnn.create("cifar_resnet20"), tmp_path / "w.safetensors")
    assert len(error.value.problems) == 60
    assert sum(f"missing {name} for" in str(error.value) for name in gone) == 20
    assert "; and 40 more" in str(error.value)


def test_pth_runs_no_code(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", r"holds no state dict but an object of \S+, which is not run")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    refused(tmp_path / "plain.pth", r"holds no state dict but an object of \S+, which is not run")
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "holds no state dict")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "kind, message",
    [
        ("sparse", r"has 'fc\.weight' as a sparse tensor \(torch\.sparse_coo\); expected dense floating point tensors"),
        ("rows", r"has 'fc\.weight' as a sparse tensor \(torch\.sparse_csr\); expected dense"),
        ("meta", r"has 'fc\.weight' as a meta tensor, which has a shape but no values; expected dense"),
        ("quantized", r"has 'fc\.weight' as a quantized tensor \(torch\.qint8\); expected dense"),
        ("nested", r"has 'fc\.weight' as a nested tensor \(torch\.strided\); expected dense"),
        ("integer", r"has 0 \(int\) as a tensor's name, and 1 more entries like this; expected .* tensors by name$"),
    ],
)
def test_intact_pth_files_that_hold_no_arrays(tmp_path, kind, message):
    """The message names the kind of tensor. PyTorch's warnings about these kinds are not shown."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    square = torch.eye(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        states = {
            "sparse": lambda: {"fc.weight": square.to_sparse()},
            "rows": lambda: {"fc.weight": square.to_sparse_csr()},
            "meta": lambda: {"fc.weight": square.to("meta")},
            "quantized": lambda: {"fc.weight": torch.quantize_per_tensor(square, 0.1, 0, torch.qint8)},
            "nested": lambda: {"fc.weight": torch.nested.nested_tensor([square, square[:2]])},
            "integer": lambda: {0: square, 1: square},
        }
        torch.save({"fc.bias": torch.ones(3)} | states[kind](), tmp_path / "w.pth")
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        refused(tmp_path / "w.pth", message)  # warnings are errors here
    finally:
        torch.set_warn_always(before)


def test_tensors_are_read_on_request(tmp_path):
    net = small.network(seed=1)
    save_weights(net, tmp_path / "w.npz")
    with open_tensors(tmp_path / "w.npz") as tensors:
        assert tensors["conv2/filters"].shape == (3, 3, 8, 16)
        np.testing.assert_array_equal(tensors["conv2/filters"].read(), net.variables["conv2/filters"])
