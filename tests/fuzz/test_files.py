"""Files of weights, class names and settings with changed bytes: loaded correctly or rejected in one line."""

from __future__ import annotations

import json
import pickle
import warnings
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest

from rawcnn.data.records import Records, pack
from rawcnn.evaluation.class_names import read_labels
from rawcnn.files.journal import Journal
from rawcnn.weights import describe, load_weights, save_weights
from tests.rawcnn import small
from tests.rawcnn.weights import torch_files
from tests.rawcnn.weights.test_weights import assert_equal, values

ENDINGS = (".safetensors", ".npz", ".h5", ".pth", ".th", ".pkl")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """The same weights in each format."""
    folder, network = tmp_path_factory.mktemp("sound"), small.network(seed=2)
    for ending in (".safetensors", ".npz"):
        save_weights(network, folder / f"w{ending}")
    with h5py.File(folder / "w.h5", "w") as file:
        for path, value in values(network).items():
            file[path] = value
    tensors = {path: torch_files.Tensor(value) for path, value in values(network).items()}
    for ending in (".pth", ".th"):
        torch_files.write({"state_dict": tensors, "args": Namespace(rate=0.1)}, folder / f"w{ending}", ending == ".pth")
    (folder / "w.pkl").write_bytes(pickle.dumps({"model": values(network), "rate": np.float32(0.1)}))
    return {ending: (folder / f"w{ending}").read_bytes() for ending in ENDINGS}


def changed(content: bytes, seed: int) -> bytes:
    """Cut, extended, or with some changed bytes, most of them near the start."""
    generator = np.random.default_rng(seed)
    if seed % 4 == 0:
        return content[: int(generator.integers(0, len(content)))]
    if seed % 4 == 1:
        place = int(generator.integers(0, len(content)))
        return content[:place] + generator.bytes(int(generator.integers(1, 64))) + content[place:]
    some = bytearray(content)
    for _ in range(int(generator.integers(1, 8))):
        place = int(min(generator.integers(0, len(some), 3)))
        some[place] = int(generator.integers(0, 256))
    return bytes(some)


@pytest.mark.sample(13)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("seed", range(120))
def test_weights(sound, tmp_path, ending, seed):
    """All tensors are loaded or none, without unexpected exceptions, and all values are numbers."""
    file, network = tmp_path / f"w{ending}", small.network(seed=1)
    file.write_bytes(changed(sound[ending], seed))
    before = values(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            describe(file)
            load_weights(network, file)
        except ValueError as error:
            assert "\n" not in str(error)
            assert_equal(network, before)
        else:
            assert all(np.isfinite(value).all() for value in values(network).values())


NAMES = json.dumps({str(n): [f"n{n:08}", name] for n, name in enumerate(("cat", "dog", "Füchsin", "<b>"))}).encode()


@pytest.mark.parametrize("ending", [".txt", ".json"])
@pytest.mark.parametrize("seed", range(80))
def test_class_names(tmp_path, ending, seed):
    file = tmp_path / f"names{ending}"
    file.write_bytes(changed(NAMES if ending == ".json" else "cat\ndog\nFüchsin\n".encode(), seed))
    try:
        assert all(isinstance(name, str) for name in read_labels(file))
    except ValueError as error:
        assert "\n" not in str(error) and str(file) in str(error)


@pytest.mark.parametrize("text", [
    "[" * 100_000, '{"0": ' * 50_000, "1e999", "[" * 900 + "]" * 900,
    "[1e999]", '{"0": ["a"]}', '{"1": ["a", "b"]}', "[[[]]]", "[null]", '"x"',
    "[" + "1," * 10_000 + "1]", '{"0": {"1": "x"}}', "NaN", "", " ", "\ufeff[]", '["\\ud800"]',
])  # fmt: skip
def test_json_that_is_no_list_of_names(tmp_path, text):
    file = tmp_path / "names.json"
    file.write_text(text, encoding="utf-8")
    try:
        assert all(isinstance(name, str) and name.encode("utf-8", "replace") for name in read_labels(file))
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, bytes]:
    from rawcnn.data.folders import folder_items
    from tests.rawcnn.folders import make_folder

    folder = tmp_path_factory.mktemp("records")
    pack(*folder_items(make_folder(folder / "pets", (4, 4))), folder / "packed", shard=4)
    return {path.name: path.read_bytes() for path in (folder / "packed").iterdir()}


@pytest.mark.parametrize("seed", range(100))
def test_packed_images(records, tmp_path, seed):
    """With one changed file the folder or an image is rejected, or the image differs."""
    from rawcnn.data.decode import each, read

    names = sorted(records)
    for name, content in records.items():
        (tmp_path / name).write_bytes(changed(content, seed) if name == names[seed % len(names)] else content)
    try:
        found = Records.open(tmp_path)
        for shelf in found.splits.values():
            assert all(image.shape[2] == 3 for _, image in each(read, shelf))
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("seed", range(60))
def test_journals(tmp_path, seed):
    """The rows are read as written, or the file is rejected and stays unchanged."""
    journal = Journal(tmp_path / "j", {"a": 1})
    for number in range(5):
        journal.add({"x": number, "y": ["é", 0.1]})
    content = changed(journal.path.read_bytes(), seed)
    journal.path.write_bytes(content)
    try:
        found = Journal(journal.path, {"a": 1}).rows
        assert found == journal.rows[: len(found)]
    except ValueError as error:
        assert "\n" not in str(error) and journal.path.read_bytes() == content


@pytest.mark.sample(3)
@pytest.mark.parametrize("seed", range(40))
def test_notes_of_checkpoints(tmp_path, seed):
    """An unreadable checkpoint is skipped, and the previous one is used."""
    from rawcnn.training.trainer import Training
    from tests.rawcnn.runs import RECIPE

    training = Training(small.network(), RECIPE, folder=tmp_path)
    training.save()
    training.at.steps = 1
    training.save()
    newest = Path(tmp_path) / "checkpoints" / "ckpt-1" / "note.json"
    newest.write_bytes(changed(newest.read_bytes(), seed))
    again = Training(small.network(), RECIPE, folder=tmp_path)
    try:
        assert again.restore() and (again.epoch, again.at.steps) == ((0, 0) if again.damaged else (0, 1))
    except ValueError as error:
        assert "\n" not in str(error)
