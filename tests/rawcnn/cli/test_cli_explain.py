"""`rawcnn explain`: the page, its notes, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import rawcnn
from rawcnn.models import MODELS, ModelEntry
from tests.rawcnn import small
from tests.rawcnn.report.test_report import Reader


@pytest.fixture
def command(rawcnn_command, tmp_path, monkeypatch):
    """Run the command line in a folder, where "small" is a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "small", ModelEntry(small.model, "a test", 8, 10))
    return rawcnn_command


def picture(path, size: int = 8):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return path


def test_a_page_of_an_image(command, tmp_path):
    network = small.network(seed=3)
    network.labels = tuple(f"kind {n}" for n in range(10))
    rawcnn.save_weights(network, tmp_path / "w.safetensors")
    image = picture(tmp_path / "one.png")
    words = ("--weights", "w.safetensors", "--label", "kind 4", "--layer", "conv1", "--channel", 3, "--position", "1,2")
    code, out, err = command("explain", "small", image, *words, "--output", "page", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["label"] == 4 and result["layers"] == ["conv1"] and result["page"] == "page/index.html"
    assert [op["name"] for op in result["operations"]] == [op.name for op in network.operations]
    assert [file.name for file in (tmp_path / "page").iterdir()] == ["index.html"]
    html = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert result["bytes"] == len(html.encode())
    read = Reader(html)
    assert "one.png" in read.text and "kind 4" in read.text
    assert {button.get("data-operation") for button in read.all("button")} >= {op.name for op in network.operations}
    document = json.loads(html.split('id="document">')[1].split("</script>")[0])
    (conv1,) = [op for op in document["operations"] if op["name"] == "conv1"]
    assert conv1["selection"]["initial"] == [1, 2, 3]


@pytest.mark.slow
def test_a_certain_network_has_no_gradients_to_show(command, tmp_path):
    network = small.network(seed=3)
    network.variables["classifier/bias"].assign([50.0] + [0.0] * 9)
    rawcnn.save_weights(network, tmp_path / "w.safetensors")
    image = picture(tmp_path / "one.png")
    words = ("explain", "small", image, "--weights", "w.safetensors", "--recipe", "alexnet2012")
    code, _, err = command(*words)
    assert code == 0 and "nearly all of the probability" in err and "--label" in err
    assert "nearly all of the probability" in (tmp_path / "explanation" / "index.html").read_text(encoding="utf-8")
    code, _, err = command(*words, "--label", 1)
    assert code == 0 and "probability" not in err


def test_without_an_image_a_photograph_is_explained(command, tmp_path):
    code, _, err = command("explain", "cifar_resnet20", "--size", "32x24")
    assert code == 0 and "china.jpg" in err
    html = (tmp_path / "explanation" / "index.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 15e6


@pytest.mark.slow
def test_all_holds_everything(command, tmp_path):
    image = picture(tmp_path / "one.png", 64)
    sizes = []
    for words in ((), ("--all",)):
        code, _, err = command("explain", "vgg_a", image, "--size", 64, "--classes", 10, "--layer", "fc7", *words)
        assert code == 0, err
        sizes.append((tmp_path / "explanation" / "index.html").stat().st_size)
        assert ("The page holds" in err) is (not words)
    assert sizes[0] < 15e6 < 4096 * 4096 * 4 < sizes[1]


BAD = [
    (("--layer", "conv9"), "there is no layer 'conv9'"),
    (("--label", "10"), "--label is '10'; expected a class number from 0 to 9"),
    (("--label", "-1"), "--label is '-1'"),
    (("--label", "tench"), "--label is 'tench'"),
    (("--layer", "conv1", "--position", "8,0"), "position is (8, 0); the map of conv1 is 8×8"),
    (("--layer", "conv1", "--position", "x"), "--position is 'x'"),
    (("--position", "1,1"), "name one layer"),
    (("--layer", "conv1", "--channel", "8"), "conv1 has channels 0 to 7"),
    (("--layer", "conv1", "--channel", "-1"), "Invalid value for '--channel'"),
    (("--channel", "1"), "name one layer"),
    (("--recipe", "fast"), "fast"),
    (("--output", "file.txt"), "file.txt is a file"),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("words, message", BAD)
def test_bad_options(command, tmp_path, words, message):
    (tmp_path / "file.txt").write_text("mine")
    before = sorted(tmp_path.iterdir())
    code, _, err = command("explain", "small", picture(tmp_path / "file.txt.png"), *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1, "the error comes before any other output"
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "file.txt.png"]
    assert (tmp_path / "file.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [("--label", "10"), ("--channel", "1"), ("--recipe", "fast")])
def test_what_needs_no_network_is_refused_before_it_is_built(command, tmp_path, monkeypatch, words):
    monkeypatch.setattr("rawcnn.cli.request.load_network", None)
    code, _, err = command("explain", "small", picture(tmp_path / "one.png"), *words)
    assert code == 2 and len(err.splitlines()) == 1


@pytest.mark.sample(3)
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_images_that_cannot_be_read(command, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    code, _, err = command("explain", "small", "bad.png")
    assert code == 2 and err.startswith("rawcnn: bad.png cannot be read as an image") and len(err.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["bad.png"]


def test_layers_that_are_too_large(command, tmp_path, monkeypatch):
    """The earlier page stays as it is."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("earlier")
    monkeypatch.setattr("rawcnn.explain.explanation.PAGE_CHARACTERS", 1_040_000)
    code, _, err = command("explain", "small", picture(tmp_path / "one.png"), "--output", "page")
    assert code == 2 and "choose fewer or smaller layers" in err.splitlines()[-1]
    assert [file.read_text() for file in (tmp_path / "page").iterdir()] == ["earlier"]
