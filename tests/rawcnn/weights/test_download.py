"""Downloads of Keras's weights: Keras's own addresses, hashes and cache, and an error of one line without a network."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import re
import socket

import keras
import pytest

from rawcnn.weights import download as module
from rawcnn.weights.download import CLASSES, KERAS, fetch, fetch_labels


@pytest.mark.parametrize("model", KERAS)
def test_addresses_and_hashes_are_those_of_keras(model):
    """The source of keras.applications contains each address, assembled from its parts, and each hash."""
    application = re.sub(r"(resnet)\d+$|(nasnet)_\w+$", lambda m: m[1] or m[2], model)
    source = inspect.getsource(importlib.import_module(f"keras.src.applications.{application}"))
    address, md5 = KERAS[model]
    folder, name = address.rsplit("/", 1)
    joined = re.sub(r'"\s*"', "", source)
    assert folder in joined
    assert name.removeprefix(model) in joined
    assert md5 in source


def test_the_class_index_is_keras_s():
    source = inspect.getsource(importlib.import_module("keras.src.applications.imagenet_utils"))
    assert CLASSES[0] in re.sub(r'"\s*"', "", source) and CLASSES[1] in source


def test_files_in_the_cache_are_used(monkeypatch, tmp_path):
    requested = []

    def get_file(origin, file_hash, cache_subdir):
        requested.append((origin, file_hash, cache_subdir))
        path = tmp_path / "index.json"
        path.write_text(json.dumps({"0": ["n1", "great_white_shark"], "1": ["n2", "tench"]}))
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert fetch("vgg16") == tmp_path / "index.json"
    assert fetch_labels() == ("great white shark", "tench")
    assert requested == [(*KERAS["vgg16"], "models"), (*CLASSES, "models")]


def test_a_model_that_keras_does_not_publish():
    with pytest.raises(ValueError, match=r"Keras publishes no weights of alexnet; it has vgg16, .*nasnet_large$"):
        fetch("alexnet")


def test_offline_is_one_line(rawcnn_command, monkeypatch):
    def get_file(**words):
        raise Exception("URL fetch failure on https://…: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    code, out, err = rawcnn_command("weights", "fetch", "resnet50", "--from", "keras")
    assert (code, out) == (2, "")
    assert "could not be downloaded (URL fetch failure" in err and "rawcnn weights import" in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def keras_cache(monkeypatch, tmp_path):
    """An empty cache in place of the user's."""
    monkeypatch.setattr(importlib.import_module("keras.src.backend.config"), "_KERAS_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize("stale", [False, True])
def test_a_refused_connection_is_one_line(rawcnn_command, monkeypatch, keras_cache, stale):
    """Keras's downloader announces what it is about to do. This is not shown if the download cannot begin."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # no process listens on it afterward
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(module.KERAS, "resnet50", (f"http://127.0.0.1:{port}/r.h5", "0" * 32))
    if stale:  # Keras announces that, too
        keras_cache.mkdir()
        (keras_cache / "r.h5").write_bytes(b"half")
    code, out, err = rawcnn_command("weights", "fetch", "resnet50")
    assert (code, out) == (2, "")
    assert "could not be downloaded (URL fetch failure" in err and "refused" in err
    assert len(err.strip().splitlines()) == 1 and "Downloading" not in err


def test_a_download_shows_its_progress(capsys, monkeypatch, keras_cache, tmp_path):
    content = bytes(10**5)
    (tmp_path / "r.h5").write_bytes(content)
    address = (tmp_path / "r.h5").as_uri()
    monkeypatch.setitem(module.KERAS, "resnet50", (address, hashlib.md5(content).hexdigest()))
    assert fetch("resnet50").read_bytes() == content
    out, err = capsys.readouterr()
    assert out == "" and f"Downloading data from {address}" in err and "100000/100000" in err
    assert fetch("resnet50") == keras_cache / "r.h5"  # no message the second time
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "words, message",
    [
        (("resnet50", "--from", "elsewhere"), "--from is 'elsewhere'; expected keras"),
        (("resnet51",), "there is no model 'resnet51'"),
        (("resnet50", "--output", "w.h5"), "has the ending '.h5'; expected .safetensors or .npz"),
    ],
)
def test_wrong_arguments(rawcnn_command, words, message):
    code, _, err = rawcnn_command("weights", "fetch", *words)
    assert code == 2 and message in " ".join(err.split())


@pytest.mark.deeper
def test_fetched_weights_include_class_names(rawcnn_command, monkeypatch, tmp_path):
    """A small file replaces the cached one. It is loaded, written with its class names, and used to predict."""
    import numpy as np
    from PIL import Image

    from rawcnn import models
    from tests.rawcnn.weights.test_published_weights import keras_network, write_legacy

    monkeypatch.setitem(models.MODELS, "vgg16", models.ModelEntry(models.vgg.vgg16, "small", 32, 3, "caffe"))
    monkeypatch.setitem(
        importlib.import_module("tests.rawcnn.weights.test_published_weights").TWINS,
        "vgg16",
        lambda **words: keras.applications.VGG16(input_shape=(32, 32, 3), classes=3, **words),
    )
    write_legacy(keras_network("vgg16"), tmp_path / "cached.h5")
    (tmp_path / "index.json").write_text(
        json.dumps({str(n): [f"n{n}", name] for n, name in enumerate(("a", "b_c", "d"))})
    )
    cached = {KERAS["vgg16"][0]: tmp_path / "cached.h5", CLASSES[0]: tmp_path / "index.json"}
    monkeypatch.setattr(module, "_get", lambda address, md5: cached[address])
    ours = tmp_path / "ours.safetensors"
    code, out, err = rawcnn_command("weights", "fetch", "vgg16", "--output", ours, "--json")
    assert code == 0, err
    assert json.loads(out)["output"] == str(ours)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "black.png")
    code, out, err = rawcnn_command("predict", "vgg16", tmp_path / "black.png", "--weights", ours, "--json")
    assert code == 0, err
    assert {guess["label"] for guess in json.loads(out)[0]["guesses"]} == {"a", "b c", "d"}
