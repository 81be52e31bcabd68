"""Weight files that would harm: each is refused unread, in one line, and nothing changes."""

from __future__ import annotations

import pickle
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import rawcnn
from rawcnn.weights import Misfit, describe, load_weights, save_weights
from rawcnn.weights.files import opened
from tests.rawcnn import small
from tests.rawcnn.test_weights import assert_equal, values


def refused(path, message, network=None):
    network = network or small.network(seed=1)
    before = values(network)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network, path)
    assert len(str(error.value).splitlines()) == 1
    assert_equal(network, before)


def test_a_zip_bomb(tmp_path):
    """Four gigabytes of zeros in four megabytes, under a name that the network has: its header is read, no more."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1/filters.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**14, 2**14)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(64):
            file.write(bytes(2**24))
    assert path.stat().st_size < 2**21
    with measured_memory() as peak:
        refused(path, r"conv1/filters is \(16384, 16384\), expected \(3, 3, 3, 8\)")
    assert peak() < 2**26


def test_a_bomb_behind_a_right_header(tmp_path):
    """A gigabyte follows a header of the right shape."""
    path, arrays = tmp_path / "bomb.npz", values(small.network(seed=2))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, value)
                for _ in range(64 if name == "conv1/filters" else 0):
                    file.write(bytes(2**24))
    with measured_memory() as peak:
        refused(path, r"would unpack conv1/filters\.npy to 1,073,742,\d+ bytes; its header claims 992")
    assert peak() < 2**26


def test_a_bomb_in_the_header(tmp_path):
    """A header of a gigabyte of spaces: 16 KiB of it are unpacked."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1/filters.npy", "w") as file:
        file.write(b"\x93NUMPY\x02\x00" + (2**30).to_bytes(4, "little"))
        for _ in range(64):
            file.write(b" " * 2**24)
    with measured_memory() as peak:
        refused(path, "is damaged, or no npz file")
    assert peak() < 2**26


@pytest.mark.parametrize("about", ["[1, 2]", '{"settings": [1]}', '{"labels": 3}', '{"network": 5}', "{"])
def test_crafted_words_about_the_network(tmp_path, about):
    save_file(values(small.network()), tmp_path / "w.safetensors", metadata={"rawcnn": about})
    with pytest.raises(ValueError, match=r"says about its network what (rawcnn never writes|is no JSON)"):
        describe(tmp_path / "w.safetensors")


def test_values_that_are_no_numbers(tmp_path):
    arrays = values(small.network(seed=2))
    arrays["conv2/filters"][0, 0, 0, 0] = np.nan
    arrays["conv2/bias"][3] = np.inf
    save_file(arrays, tmp_path / "w.safetensors")
    refused(
        tmp_path / "w.safetensors", "conv2/filters has values that are no numbers; conv2/bias has values that are no"
    )


def test_an_empty_file_and_a_folder(tmp_path):
    (tmp_path / "w.h5").touch()
    refused(tmp_path / "w.h5", r"w\.h5 is empty; expected a weights file")
    (tmp_path / "f.h5").mkdir()
    refused(tmp_path / "f.h5", r"f\.h5 is a folder, no weights file")


def test_an_h5_that_claims_a_million_million_elements(tmp_path):
    """A chunked data set takes no room until it is written; nothing is read, the claim is enough."""
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
    """Gives a function: the largest sum of what Python and NumPy held at a time."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def h5_with(path, link):
    """A legacy file of one layer, whose kernel `link(group)` makes."""
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
    for ending, message in (("h5", "is not in Keras's legacy form"), ("weights.h5", "is not in Keras 3's form")):
        with h5py.File(tmp_path / f"other.{ending}", "w") as file:
            file["data"] = np.ones(3)
        refused(tmp_path / f"other.{ending}", message)
    with h5py.File(tmp_path / "old.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((3, 3, 3, 8), np.float32)
    refused(tmp_path / "old.weights.h5", "does not say its layers' names; save it again with")


def test_half_precision_is_widened(tmp_path):
    arrays = {k: v.astype(np.float16) for k, v in values(small.network(seed=2)).items()}
    save_file(arrays, tmp_path / "half.safetensors")
    net = small.network(seed=1)
    load_weights(net, tmp_path / "half.safetensors")
    assert_equal(net, {k: v.astype(np.float32) for k, v in arrays.items()})


def test_names_of_no_known_form(tmp_path):
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", r"of no known form \(a\); expected rawcnn's, Keras's or PyTorch's")
    save_file({}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", r"of no known form \(none at all\)")


def test_all_problems_are_kept_and_the_first_told(tmp_path):
    arrays = values(rawcnn.create("cifar_resnet20", seed=2))
    gone = [name for name in arrays if name.startswith("conv3_")][:30]
    for name in gone:
        arrays[f"other/{name}"] = arrays.pop(name)
    save_file(arrays, tmp_path / "w.safetensors")
    with pytest.raises(Misfit) as error:
        load_weights(rawcnn.create("cifar_resnet20"), tmp_path / "w.safetensors")
    assert len(error.value.problems) == 60
    assert sum(f"missing {name} for" in str(error.value) for name in gone) == 20
    assert "; and 40 more" in str(error.value)


def test_pth_without_pytorch_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"anything")
    refused(tmp_path / "w.pth", r"needs PyTorch to be read: pip install torch, or convert it once with safetensors")


def test_pth_runs_no_code(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "is damaged, or no pth file")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    refused(tmp_path / "plain.pth", "is damaged, or no pth file")
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "holds no state dict")
    assert not (tmp_path / "ran").exists()


def test_opened_reads_nothing_before_it_is_asked(tmp_path):
    net = small.network(seed=1)
    save_weights(net, tmp_path / "w.npz")
    with opened(tmp_path / "w.npz") as tensors:
        assert tensors["conv2/filters"].shape == (3, 3, 8, 16)
        np.testing.assert_array_equal(tensors["conv2/filters"].read(), net.variables["conv2/filters"])
