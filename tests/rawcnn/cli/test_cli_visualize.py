"""`rawcnn visualize` from the user's side: each verb writes its picture or page, its figures and its arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rawcnn.visualize import save_png

LAST = "conv4_3/relu"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return save_png(tmp_path_factory.mktemp("photo") / "<b>&.png", np.random.default_rng(0).uniform(0, 1, (9, 12, 3)))


@pytest.fixture
def run(rawcnn_command, digits_weights, tmp_path):
    """Run a verb on the digits network, write tmp_path/ENDING and return the JSON, which must also be in a file."""

    def run_verb(verb: str, *words: object, ending: str = "out.png") -> dict:
        output = tmp_path / ending
        given = ("visualize", verb, "cifar_resnet20", *words, "--weights", digits_weights, "--output", output, "--json")
        code, out, err = rawcnn_command(*given)
        assert code == 0, err
        record = json.loads(out)
        assert record == json.loads(output.with_suffix(".json").read_text())
        assert record["settings"]["seed"] == 0 and record["output"] == str(output) and output.is_file()
        return record

    return run_verb


def size_of(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def check_offline_alone(html: str) -> None:
    """Check that a page refers to nothing outside itself."""
    assert "<html" in html and "data:image/" in html
    assert "https://" not in html and "http://" not in html.replace("http://www.w3.org", "")


def arrays_of(record: dict) -> dict[str, np.ndarray]:
    with np.load(record["arrays"]) as file:
        return dict(file)


def test_filters(run, tmp_path):
    assert run("filters")["filters"] == 16 and min(size_of(tmp_path / "out.png")) > 100


def test_top_inputs(run, tmp_path):
    words = ("--layer", "conv2_1/relu", "--channel", 3, "--channel", 5, "--count", 4, "--split", "test")
    channels = run("top-inputs", *words)["channels"]
    assert list(channels) == ["3", "5"] and all(len(found["top"]) == 4 for found in channels.values())
    activations = [top["activation"] for top in channels["3"]["top"]]
    assert activations == sorted(activations, reverse=True)
    lowest = [bottom["activation"] for bottom in channels["3"]["bottom"]]
    assert lowest == sorted(lowest) and lowest[0] <= activations[-1]
    assert sum(channels["3"]["histogram"]["counts"]) == channels["3"]["images"] == 355
    assert [q["quantile"] for q in channels["3"]["quantiles"]] == [0.1, 0.25, 0.5, 0.75, 0.9]
    assert size_of(tmp_path / "out.png")[0] > size_of(tmp_path / "out.png")[1]
    assert size_of(tmp_path / "out-5.png")[0] > 500


@pytest.mark.deeper
def test_two_files_of_one_name(run, photo, tmp_path):
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / photo.name
    again.write_bytes(photo.read_bytes())
    record = run("deconv", photo, again, "--layer", LAST, "--channel", 3)
    assert [unit["file"] for unit in record["units"]] == [str(photo), str(again)]


def test_top_inputs_say_which_images_they_are(rawcnn_command, tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8)).save(path)
    words = ("cifar_resnet20", "--data", f"folder:{tmp_path / 'data'}", "--channel", 3, "--count", 2, "--no-histograms")
    code, out, err = rawcnn_command("visualize", "top-inputs", *words, "--output", tmp_path / "out.png", "--json")
    assert code == 0, err
    for top in json.loads(out)["channels"]["3"]["top"]:
        assert top["file"].startswith(top["class"] + "/") and top["file"].endswith(".png")
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["channel_3"].shape == (2, 32, 32, 3)


def test_top_inputs_of_classes_and_units(run):
    record = run("top-inputs", "--count", 2, "--split", "test", "--no-histograms")
    assert len(record["channels"]) == 10 and record["layer"] == "classifier"
    unit = run("top-inputs", "--layer", "conv2_1/relu", "--channel", 3, "--position", "2,5", "--split", "test")
    assert {tuple(top["position"]) for top in unit["channels"]["3"]["top"]} == {(2, 5)}


def test_deconv(run, photo):
    record = run("deconv", photo, "--layer", "conv2_1/relu", "--channel", 4, "--start", "one")
    (unit,) = record["units"]
    arrays = arrays_of(record)
    assert unit["channel"] == 4 and {"deconvnet_0_4", "guided_0_4", "gradient_0_4"} <= set(arrays)
    assert arrays["deconvnet_0_4"].shape == (8, 8, 3) and np.any(arrays["deconvnet_0_4"])


def test_saliency(run, photo):
    record = run("saliency", photo, photo, "--samples", 3, "--steps", 4, "--class", 7)
    assert record["classes"] == [7, 7] and len(record["integrated_gradients_miss_the_logits_by"]) == 2
    assert arrays_of(record)["smooth"].shape == (2, 8, 8, 3)


@pytest.mark.sample("direction", "diverse")
@pytest.mark.parametrize(
    "words, objective, images",
    [
        (("--channel", 3, "--channel", 5), "classifier channel 3, 5", 2),
        (("--layer", LAST), f"{LAST}, all channels", 1),
        (("--layer", LAST, "--unit", "5:2", "--unit", "16:1"), f"{LAST} channels 2·5 + 1·16", 1),
        (("--layer", LAST, "--between", "5,16", "--count", 3), f"from {LAST} channel 5 to {LAST} channel 16", 3),
        (("--layer", LAST, "--channel", 5, "--negative"), f"−({LAST.removesuffix('/relu')} channel 5)", 1),
        (("--layer", LAST, "--channel", 5, "--position", "1,0"), f"{LAST} channel 5 at (1, 0)", 1),
        (("--layer", LAST, "--channel", 5, "--count", 2, "--diversity", 1), f"{LAST} channel 5, diverse", 2),
    ],
    ids=["logits", "layer", "direction", "interpolation", "negative", "neuron", "diverse"],
)
def test_optimize(run, words, objective, images):
    record = run("optimize", *words, "--steps", 2, "-r", "image=pixel", "-r", "blur=0.3", "--frames", 2)
    made, arrays = record["made_with"], arrays_of(record)
    assert made["objective"] == objective and made["image"] == "pixel" and made["blur"] == 0.3
    assert arrays["images"].shape == (images, 8, 8, 3) and arrays["step_2"].shape == (images, 8, 8, 3)
    assert len(record["activation"]) == len(record["high_frequency_energy"]) == images


@pytest.mark.deeper
def test_compare(run, tmp_path):
    record = run("optimize", "--layer", LAST, "--channel", 3, "--channel", 4, "--compare", "--steps", 2)
    ratios = record["high_frequency_energy_against_none"]
    assert next(iter(ratios)) == "none" and ratios["none"] == 1
    assert {"blur", "penalty", "robustness", "Fourier"} < {*ratios}
    width, height = size_of(tmp_path / "out.png")
    assert width > 2 * height  # one column per regularization, one row per channel


def test_building_blocks(run, photo, tmp_path):
    record = run("building-blocks", photo, "--layer", LAST, "--steps", 2, "--limit", 4, ending="blocks.html")
    check_offline_alone((tmp_path / "blocks.html").read_text())
    assert len(record["classes"]) == 2 and size_of(tmp_path / "blocks.png")[0] > 300


def test_atlas(run, tmp_path):
    words = ("--layer", LAST, "--grid", "3,5", "--steps", 2, "--layout", "tsne", "--split", "test")
    record = run("atlas", *words, ending="atlas.html")
    check_offline_alone((tmp_path / "atlas.html").read_text())
    assert record["images"] <= 355 and record["levels"][0]["grid"] == 3 and record["levels"][0]["cells"] > 2


WRONG = {
    "unknown layer": (("top-inputs", "cifar_resnet20", "--layer", "conv9"), "names near it are conv"),
    "no colors": (("filters", "cifar_resnet20", "--layer", "conv2_1/conv1"), "conv1"),
    "no channel": (("optimize", "cifar_resnet20", "--layer", "conv1", "--channel", 16), "channels 0 to 15"),
    "no position": (("optimize", "cifar_resnet20", "--layer", "conv1", "--channel", 1, "--position", "x"), "numbers"),
    "two targets": (("optimize", "cifar_resnet20", "--channel", 1, "--unit", "1:2"), "exclude each other"),
    "no weight": (("optimize", "cifar_resnet20", "--unit", "a:2"), "CHANNEL:WEIGHT"),
    "no setting": (("optimize", "cifar_resnet20", "-r", "sharp=1"), "its names are image, decorrelate"),
    "compare what": (("optimize", "cifar_resnet20", "--compare"), "give --channel"),
    "compare how": (("optimize", "cifar_resnet20", "--compare", "--channel", 1, "--count", 2), "leave out --count"),
    "many frames": (("optimize", "cifar_resnet20", "--frames", 9, "--steps", 2), "no more frames than steps"),
    "no start": (("deconv", "cifar_resnet20", __file__, "--layer", "conv1", "--start", "two"), "--start is 'two'"),
    "no split": (("page", "cifar_resnet20", "--layer", "conv1", "--split", "val"), 'expected "train" or "test"'),
    "no unit": (("page", "cifar_resnet20", "--layer", "conv1", "--channel", 16), "channels 0 to 15"),
    "no grid": (("atlas", "cifar_resnet20", "--layer", "conv1", "--grid", "4,x"), "whole numbers with commas"),
    "no layout": (("atlas", "cifar_resnet20", "--layer", "conv1", "--layout", "mds"), "layout is 'mds'"),
    "no picture": (("optimize", "cifar_resnet20", "--output", "a.gif"), "expected .png"),
    "no page": (("atlas", "cifar_resnet20", "--layer", "conv1", "--output", "a.png"), "expected .html"),
    "no image": (("deconv", "cifar_resnet20", __file__, "--layer", "conv1"), "cannot be read as an image"),
    "few images": (("atlas", "cifar_resnet20", "--layer", LAST, "--data", "digits", "--images", "50"), "images"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = rawcnn_command("visualize", *words)
    *before, last = err.strip().splitlines()
    assert code == 2 and last.startswith("rawcnn: ") and message in last, err
    assert not before or "--split" in words or "--images" in words, "only the data shows that these do not fit"
    assert not [*tmp_path.iterdir()]


OUTSIDE = {
    "optimize a class": ("optimize --channel 10", "classifier has channels 0 to 9"),
    "optimize several classes": ("optimize --channel 3 --channel 12", "[12]; classifier has channels 0 to 9"),
    "optimize a negative class": ("optimize --channel -1", "channels are [-1]; classifier has channels 0 to 9"),
    "optimize a channel": ("optimize --layer conv1 --channel 16", "conv1 has channels 0 to 15"),
    "optimize minus a channel": ("optimize --layer conv1 --channel 16 --negative", "conv1 has channels 0 to 15"),
    "compare a channel": ("optimize --channel 10 --compare", "classifier has channels 0 to 9"),
    "optimize a unit": ("optimize --unit 10:1", "channels are [10]; classifier has channels 0 to 9"),
    "optimize a negative unit": ("optimize --unit 3:1 --unit -1:2", "[-1]; classifier has channels 0 to 9"),
    "optimize between": ("optimize --between 3,10", "channels are [10]; classifier has channels 0 to 9"),
    "optimize between negative": ("optimize --between=-2,3", "channels are [-2]; classifier has channels 0 to 9"),
    "optimize a position": (
        "optimize --layer conv4_3/relu --channel 1 --position 1,2",
        "position is (1, 2); the map of conv4_3/relu is 2×2: expected (row, column), rows 0 to 1 and columns 0 to 1",
    ),
    "optimize a position of a class": ("optimize --channel 1 --position 0,0", "but classifier has no map"),
    "optimize a position at another size": (
        "optimize --layer conv4_3/relu --channel 1 --position 3,4 --size 16",
        "the map of conv4_3/relu is 4×4",
    ),
    "optimize a layer": ("optimize --layer conv9", "there is no layer 'conv9'"),
    "deconv a channel": ("deconv PHOTO --layer conv1 --channel 16", "conv1 has channels 0 to 15"),
    "deconv a negative channel": ("deconv PHOTO --layer conv1 --channel -1", "conv1 has channels 0 to 15"),
    "deconv a position": ("deconv PHOTO --layer conv1 --position 8,0", "the map of conv1 is 8×8"),
    "deconv a negative position": ("deconv PHOTO --layer conv1 --position=-1,0", "position is (-1, 0)"),
    "deconv a layer": ("deconv PHOTO --layer conv9", "there is no layer 'conv9'"),
    "saliency of a class": ("saliency PHOTO --class 10", "classes are [10]; cifar_resnet20 has classes 0 to 9"),
    "saliency of a negative class": ("saliency PHOTO --class -1", "[-1]; cifar_resnet20 has classes 0 to 9"),
    "top inputs of a class": ("top-inputs --channel 10", "classifier has channels 0 to 9"),
    "top inputs of a position": ("top-inputs --layer conv1 --channel 1 --position 8,0", "the map of conv1 is 8×8"),
    "blocks of a class": ("building-blocks PHOTO --layer conv1 --class 10", "cifar_resnet20 has classes 0 to 9"),
    "blocks of a class twice": ("building-blocks PHOTO --layer conv1 --class 1 --class 1", "one of them twice"),
    "blocks with many channels": ("building-blocks PHOTO --layer conv1 --top 17", "conv1 has 16 channels"),
    "blocks with many groups": ("building-blocks PHOTO --layer conv1 --groups 17", "groups is 17; conv1 has"),
    "blocks of a layer": ("building-blocks PHOTO --layer conv9", "there is no layer 'conv9'"),
    "a page of a channel": ("page --layer conv1 --channel 16", "conv1 has channels 0 to 15"),
    "filters of a layer": ("filters --layer conv9", "there is no layer 'conv9'"),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("words, message", OUTSIDE.values(), ids=OUTSIDE)
def test_indices_outside_a_network_are_refused_before_the_work(
    rawcnn_command, digits_weights, photo, words, message, tmp_path, monkeypatch
):
    """Channels, units, classes, positions and layers, negative ones too, in every verb: one line alone, and no file."""
    from rawcnn.visualize import optimization, saliency

    def no_work(*arguments, **settings):
        raise AssertionError("the work began")

    monkeypatch.setattr(optimization, "_maximize_batch", no_work)
    monkeypatch.setattr(saliency, "logit_gradient", no_work)
    monkeypatch.chdir(tmp_path)
    verb, *others = [photo if word == "PHOTO" else word for word in words.split()]
    code, _, err = rawcnn_command("visualize", verb, "cifar_resnet20", *others, "--weights", digits_weights)
    (last,) = err.strip().splitlines()
    assert code == 2 and last.startswith("rawcnn: ") and message in last, err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", ["optimize --channel 1 --size 100", "optimize --channel 1 --size 130x67"])
def test_a_size_that_the_classifier_does_not_take(rawcnn_command, words, tmp_path, monkeypatch):
    """The message advises what the verb has: the network's own size, or a layer before the classifier."""
    monkeypatch.chdir(tmp_path)
    verb, *others = words.split()
    small = ("-o", "size=67", "-o", "classes=4")
    code, _, err = rawcnn_command("visualize", verb, "alexnet", *others, *small)
    last, given = err.strip().splitlines()[-1], "100×100" if words.endswith("100") else "130×67"
    assert code == 2 and "--" not in last and "size=" not in last
    assert last == (
        f"rawcnn: fc8 needs images of 67×67, not {given}, because the fully connected layer fc6 fixes the size; "
        "give images of that size, or name a layer before fc6"
    )
    assert not [*tmp_path.iterdir()]


def test_without_a_verb_the_help_is_printed(rawcnn_command):
    code, out, _ = rawcnn_command("visualize")
    assert code == 0 and all(verb in out for verb in ("optimize", "atlas", "top-inputs")) and out.count("\n") > 8


def test_words_that_cannot_be_taken_name_the_verb(rawcnn_command):
    code, _, err = rawcnn_command("visualize", "optimize", "cifar_resnet20", "--channel", "x")
    assert code == 2 and "(see rawcnn visualize optimize --help)" in err.strip().splitlines()[-1]


LAYERS = [
    ("visualize", "optimize", "MODEL", "--layer", "conv9"),
    ("visualize", "optimize", "MODEL", "--layer", "conv1", "--channel", "99"),
    ("visualize", "optimize", "MODEL", "--layer", "conv1", "--unit", "99:1"),
    ("visualize", "optimize", "MODEL", "--layer", "conv1", "--channel", "1", "--position", "99,0"),
    ("visualize", "top-inputs", "MODEL", "--layer", "conv9"),
    ("visualize", "top-inputs", "MODEL", "--layer", "conv1", "--channel", "99"),
    ("visualize", "deconv", "MODEL", "FILE", "--layer", "conv9"),
    ("visualize", "deconv", "MODEL", "FILE", "--layer", "conv1", "--position", "99,0"),
    ("visualize", "building-blocks", "MODEL", "FILE", "--layer", "conv9"),
    ("visualize", "atlas", "MODEL", "--layer", "conv9"),
    ("visualize", "page", "MODEL", "--layer", "conv9"),
    ("visualize", "page", "MODEL", "--layer", "conv1", "--channel", "99"),
    ("visualize", "saliency", "MODEL", "FILE", "--class", "99"),
    ("explain", "MODEL", "FILE", "--layer", "conv9"),
    ("explain", "MODEL", "FILE", "--layer", "conv1", "--channel", "99"),
    ("explain", "MODEL", "FILE", "--layer", "conv1", "--position", "99,0"),
    ("attack", "fgsm", "MODEL", "--data", "digits", "--target", "99"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("words", LAYERS, ids=" ".join)
def test_what_the_operations_lack_is_refused_before_there_are_variables(words, photo, rawcnn_command, monkeypatch):
    monkeypatch.setattr("rawcnn.nn.trace.Parameter.create", None)
    words = [{"MODEL": "cifar_resnet20", "FILE": photo}.get(word, word) for word in words]
    code, out, err = rawcnn_command(*words)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "conv9" in err or "99" in err
