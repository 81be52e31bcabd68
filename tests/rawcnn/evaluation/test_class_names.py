"""Names of classes in files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn import data
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.evaluation.class_names import match_classes, read_labels
from rawcnn.evaluation.multicrop import evaluate_views
from rawcnn.nn.network import Network
from tests.rawcnn import small
from tests.rawcnn.folders import save


@pytest.mark.parametrize(
    "name, text",
    [
        ("names.txt", "cat\ndog\r\n\n  great white shark \n"),
        ("names.json", json.dumps(["cat", "dog", "great_white_shark"])),
        ("names.json", json.dumps({"2": ["n3", "great_white_shark"], "0": ["n1", "cat"], "1": ["n2", "dog"]})),
    ],
)
def test_forms(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ("cat", "dog", "great white shark")


@pytest.mark.parametrize("text", ["{", "3", '{"0": ["n1", "cat"], "2": ["n3", "dog"]}', "[[1]]", "null"])
def test_no_list_of_names(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ValueError, match="is not a list of names in JSON"):
        read_labels(tmp_path / "names.json")


def test_no_text(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_labels(tmp_path / "names.txt")


def test_one_name_a_class():
    network = small.network(classes=3)
    network.check_labels()  # none are known
    network.labels = ("a", "b")
    with pytest.raises(ValueError, match="there are 2 class names for 3 classes; expected one for each class"):
        network.check_labels()


# Matching ------------------------------------------------------------------------------------------------------

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def color_network(*labels: str) -> Network:
    """A network whose logits are the mean red, green and blue, in the order of these names."""
    channels = ["red", "green", "blue"]
    order = [channels.index(name.lower()) for name in labels if name.lower() in channels]
    order = order if len(order) == 3 else [0, 1, 2]

    def model(net, images):
        return tf.gather(tf.reduce_mean(images, (1, 2)), order, axis=1)

    net = Network("colors", model, size=4, classes=3)
    net.labels = labels or None
    return net


@pytest.fixture
def colors(tmp_path):
    """A folder with three test images of each color; the names of the classes are sorted: blue, green, red."""
    for name, color in COLORS.items():
        for k in range(3):
            save(tmp_path / "test" / name / f"{k}.png", color, (4, 4))
    return data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    "labels", [("red", "green", "blue"), ("green", "blue", "red"), ("blue", "green", "red"), ("Red", "GREEN", "Blue")]
)
@pytest.mark.parametrize("by_views", [False, True])
def test_classes_are_matched_by_name(colors, labels, by_views):
    network = color_network(*labels)
    result = evaluate_views([network], colors) if by_views else evaluate(network, colors, compile="eager")
    assert result.accuracy == 1 and np.bincount(result.predictions).tolist() == [3, 3, 3]
    matched = match_classes(network, colors)
    assert [name.lower() for name in matched.labels] == [name.lower() for name in labels]
    assert [matched.labels[k].lower() for k in matched.arrays("test")[1]] == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3


def test_a_network_without_names_is_compared_by_number(colors):
    network = color_network()
    assert match_classes(network, colors) is colors
    assert evaluate(network, colors, compile="eager").accuracy == pytest.approx(1 / 3)  # green is in the middle of both


@pytest.mark.parametrize("by_views", [False, True])
def test_other_names_are_refused_and_can_be_forced(colors, by_views):
    network = color_network("red", "green", "yellow")

    def run(**options):
        return evaluate_views([network], colors, **options) if by_views else evaluate(network, colors, **options)

    expected = "has other classes than colors was trained for: only the data has 'blue', only the network has 'yellow'"
    with pytest.raises(ValueError, match=expected + r".*--force"):
        run()
    assert run(force=True).accuracy == pytest.approx(1 / 3)


def test_names_that_occur_twice(colors):
    network = color_network("red", "red", "blue")
    with pytest.raises(ValueError, match="only the data has 'green'"):
        match_classes(network, colors)
    twice = colors.with_classes(("red", "blue", "red"), [0, 1, 2])
    with pytest.raises(ValueError, match="a name occurs twice, so that their order cannot be compared"):
        match_classes(network, twice)
    network.labels = twice.labels
    assert match_classes(network, twice) is twice  # the order is the same


def test_fewer_and_more_classes_than_the_network_knows(colors):
    """The names say what is missing: more classes would not help a network that was trained for these."""
    network = color_network("red", "green", "blue")
    fewer = colors.with_classes(("red", "green"), [0, 1, 1])
    expected = "has 2 classes, but colors was trained for 3: only the network has 'blue'; expected the same classes"
    for force in (False, True):
        with pytest.raises(ValueError, match=expected):
            match_classes(network, fewer, force=force)
    more = colors.with_classes(("red", "green", "blue", "tan"), [0, 1, 2])
    with pytest.raises(ValueError, match=r"trained for 3: only the data has 'tan'; .*--classes 4 --head skip"):
        match_classes(network, more)
    network.labels = None
    with pytest.raises(ValueError, match="was built for 3; give it --classes 4"):
        match_classes(network, more)


def test_underscores_and_accents(colors):
    network = color_network("red", "green", "blue")
    network.labels = ("great white shark", "caf\u00e9", "Dog")
    named = colors.with_classes(("dog", "great_white_shark", "cafe\u0301"), [0, 1, 2])
    assert match_classes(network, named).labels == network.labels


def test_on_the_command_line(tmp_path, rawcnn_command):
    """The weights know the digits in their own order; the folder has them in another order or with other names."""
    net = rawcnn.create("cifar_resnet20", size=8, classes=2)
    net.labels = ("nine", "eight")
    rawcnn.save_weights(net, tmp_path / "w.safetensors")
    for root, names in (("same", ("eight", "nine")), ("other", ("eight", "ten"))):
        for label, name in enumerate(names):
            for k in range(3):
                save(tmp_path / root / "test" / name / f"{k}.png", 80 * label + 20 * k)
    words = ("evaluate", "cifar_resnet20", "--weights", tmp_path / "w.safetensors", "--data")
    for protocol in ("whole", "center"):
        code, out, err = rawcnn_command(*words, f"folder:{tmp_path / 'same'}", "--protocol", protocol, "--json")
        assert code == 0 and "in another order than the network's: matched by name" in err
        loaded = data.load(f"folder:{tmp_path / 'same'}")
        expected = net(loaded.arrays("test")[0]).numpy().argmax(1) == [1, 1, 1, 0, 0, 0]
        assert json.loads(out)["top1_accuracy"] == pytest.approx(expected.mean())
        code, _, err = rawcnn_command(*words, f"folder:{tmp_path / 'other'}", "--protocol", protocol)
        assert code == 2 and "only the data has 'ten', only the network has 'nine'" in err and "Traceback" not in err
        code, _, err = rawcnn_command(*words, f"folder:{tmp_path / 'other'}", "--protocol", protocol, "--force")
        assert code == 0, err


@pytest.mark.deeper
def test_an_attack_on_the_command_line(tmp_path, rawcnn_command):
    """An attack with labels in another order would count every image as fooled."""
    net = rawcnn.create("cifar_resnet20", classes=2)
    net.labels = ("nine", "eight")
    rawcnn.save_weights(net, tmp_path / "w.safetensors")
    for root, names in (("same", ("eight", "nine")), ("other", ("eight", "ten"))):
        for label, name in enumerate(names):
            for k in range(2):
                save(tmp_path / root / "test" / name / f"{k}.png", 80 * label + 20 * k, (32, 32))
    words = ("attack", "fgsm", "cifar_resnet20", "--weights", tmp_path / "w.safetensors", "--epsilon", 0.1)
    words += ("--compile", "eager", "--output", tmp_path / "attacked", "--json", "--data")
    code, out, err = rawcnn_command(*words, f"folder:{tmp_path / 'same'}")
    assert code == 0 and "in another order than the network's: matched by name" in err, err
    predicted = net(data.load(f"folder:{tmp_path / 'same'}").arrays("test")[0]).numpy().argmax(1)
    assert json.loads(out)["accuracy_against_epsilon"][0]["accuracy_before"] == pytest.approx(
        (predicted == [1, 1, 0, 0]).mean()
    )
    code, _, err = rawcnn_command(*words, f"folder:{tmp_path / 'other'}")
    assert code == 2 and "only the data has 'ten', only the network has 'nine'" in err


@pytest.mark.deeper
def test_split_all_and_the_default_of_a_test_folder(tmp_path, rawcnn_command):
    for split in ("train", "test"):
        for label in "ab":
            for k in range(10):
                save(tmp_path / "x" / split / label / f"{k}.png", 20 * k)
    words = ("evaluate", "cifar_resnet20", "--classes", 2, "--size", 8, "--json", "--data")
    for folder, options, count, note in (
        ("x/test", (), 20, "is a test split as a whole, because of its name"),
        ("x", (), 20, ""),
        ("x", ("--split", "all"), 40, ""),
        ("x", ("--split", "train"), 20, ""),
        ("x/train", (), 4, "a fifth of each class is the test split, 4 of 20 images; --split all"),
        ("x/train", ("--split", "all"), 20, ""),
    ):
        code, out, err = rawcnn_command(*words, f"folder:{tmp_path / folder}", *options)
        assert code == 0 and json.loads(out)["images"] == count and note in err, err
    code, _, err = rawcnn_command(*words, f"folder:{tmp_path / 'x'}", "--split", "validation")
    assert code == 2 and 'split is \'validation\'; expected "train" or "test": folder:' in err


@pytest.mark.deeper
def test_the_validation_split_on_the_command_line(tmp_path, rawcnn_command):
    """A split by any of its usual names, and the share of the training images that a training held out."""
    for split, count in (("Train", 10), ("TEST", 3), ("valid", 2)):
        for label in "ab":
            for k in range(count):
                save(tmp_path / "three" / split / label / f"{k}.png", 20 * k)
                if split != "valid":
                    save(tmp_path / "two" / split / label / f"{k}.png", 20 * k)
    words = ("evaluate", "cifar_resnet20", "--classes", 2, "--size", 8, "--json", "--data")
    for folder, options, count in (
        ("three", ("--split", "val"), 4),
        ("three", ("--split", "Validation", "--validation", 0.5), 4),  # it has one of its own
        ("three", ("--split", "TRAINING"), 20),
        ("three", ("--split", "All"), 30),
        ("two", ("--split", "dev", "--validation", 0.1), 2),
        ("two", ("--split", "train", "--validation", 0.1), 18),
    ):
        code, out, err = rawcnn_command(*words, f"folder:{tmp_path / folder}", *options)
        assert code == 0 and json.loads(out)["images"] == count, err
    for options, message in (
        (("--split", "x"), "'x' is not a split; expected train, test, validation or all"),
        (("--split", "val"), "load it with validation=0.1 (rawcnn evaluate: --validation 0.1) to cut one"),
        (("--validation", 1), "--validation is 1.0; expected a share of the training images between 0 and 1"),
        (("--validation", "nan"), "--validation is nan; expected a share"),
    ):
        code, out, err = rawcnn_command(*words, f"folder:{tmp_path / 'two'}", *options)
        assert code == 2 and message in err and out == "" and "Traceback" not in err
