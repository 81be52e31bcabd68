"""`rawcnn evaluate` by protocol and by ensemble, on the digits and on photographs of several shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import rawcnn
from rawcnn.evaluation.multicrop import PROTOCOLS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two weights files of one model for 8×8 images, of 10 classes; and one whose classes have other names."""
    folder, names = tmp_path_factory.mktemp("weights"), {}
    for name, seed, labels in (("a", 1, "0123456789"), ("b", 2, "0123456789"), ("renamed", 2, "1023456789")):
        network = rawcnn.create("cifar_resnet20", size=8, seed=seed)
        network.labels = tuple(labels)
        names[name] = folder / f"{name}.safetensors"
        rawcnn.save_weights(network, names[name])
    return names


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of ten classes with a test image each, of five shapes."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for label in range(10):
        height, width = [(9, 20), (20, 9), (16, 16), (8, 8), (5, 7)][label % 5]
        for split in ("train", "test"):
            (root / split / str(label)).mkdir(parents=True)
            pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / str(label) / "image.png")
    return root


def run(rawcnn_command, *words) -> dict:
    code, out, err = rawcnn_command("evaluate", "cifar_resnet20", *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.slow
def test_digits_by_protocol_and_ensemble(rawcnn_command, files):
    words = ("--data", "digits", "--weights", files["a"])
    usual, center, ten = (
        run(rawcnn_command, *words, *more) for more in ((), ("--protocol", "center"), ("--protocol", "10crop"))
    )
    assert (usual["protocol"], center["protocol"], ten["protocol"]) == ("whole", "center", "10crop")
    assert {**usual, "protocol": "", "loss": 0} == {**center, "protocol": "", "loss": 0}
    assert ten["images"] == 355 and ten["networks"] == 1 and ten["loss"] != usual["loss"]
    for n in (1, 5):
        low, high = ten[f"top{n}_error_interval"]
        assert low < ten[f"top{n}_error"] < high
    both = run(rawcnn_command, *words, "--weights", files["b"])
    assert both["networks"] == 2 and both["protocol"] == "whole" and both["loss"] != usual["loss"]
    again = run(rawcnn_command, *words, "--weights", files["a"])
    assert again["loss"] == pytest.approx(usual["loss"], rel=1e-6) and again["top5_error"] == usual["top5_error"]


@pytest.mark.slow
def test_photographs_by_every_protocol(rawcnn_command, files, photos):
    """The data set holds images of 8×8 pixels; the protocols read the files."""
    words = ("--data", f"folder:{photos}", "--weights", files["a"])
    results = {name: run(rawcnn_command, *words, "--protocol", name) for name in PROTOCOLS}
    assert {result["images"] for result in results.values()} == {10}
    assert len({round(result["loss"], 6) for result in results.values()}) == len(PROTOCOLS)
    alone = run(rawcnn_command, *words, "--protocol", "dense", "--scales", "12")
    chosen = run(rawcnn_command, *words, "--protocol", "multiscale", "--scales", "12", "--compile", "graph")
    assert alone["loss"] == pytest.approx(chosen["loss"], rel=1e-5)


@pytest.mark.deeper
def test_the_line_for_people(rawcnn_command, files, photos):
    words = ("--data", f"folder:{photos}", "--weights", files["a"], "--protocol", "10crop")
    code, out, err = rawcnn_command("evaluate", "cifar_resnet20", *words)
    assert code == 0 and "protocol=10crop  scales=9" in err
    result = run(rawcnn_command, *words)
    low, high = result["top1_error_interval"]
    assert f"top-1 error {result['top1_error']:.2%} (95 % interval {low:.2%} to {high:.2%})" in out
    assert f"top-5 error {result['top5_error']:.2%}" in out


WRONG = {
    "unknown protocol": (("--protocol", "corner"), "protocol is 'corner'; expected one of whole, center"),
    "scales that are no numbers": (("--protocol", "dense", "--scales", "big"), "--scales is 'big'"),
    "small crops": (("--protocol", "10crop", "--scales", "9,7"), "shorter sides of 8 pixels or more"),
    "scales of whole": (("--scales", "9"), "has no scales"),
    "other labels": (("--weights", "renamed"), "name their classes differently"),
    "no such file": (("--weights", "none.safetensors"), "none.safetensors"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line(rawcnn_command, files, words, message):
    words = [files.get(word, word) for word in words]
    code, out, err = rawcnn_command("evaluate", "cifar_resnet20", "--data", "digits", "--weights", files["a"], *words)
    assert code == 2 and not out
    last = err.strip().splitlines()[-1]
    assert last.startswith("rawcnn: ") and message in last and "Traceback" not in err
