"""Names of classes in files."""

from __future__ import annotations

import json

import pytest

from rawcnn.evaluation.class_names import read_labels
from tests.rawcnn import small


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
