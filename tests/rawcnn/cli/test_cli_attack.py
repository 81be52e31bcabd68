"""`rawcnn attack` from the user's side: every attack, its files and its errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rawcnn
from rawcnn.files.atomic import atomic_files

EXTRA = {
    "fgsm": (),
    "bim": ("--steps", 2, "--set", "early_stop=false"),
    "mi_fgsm": ("--steps", 3),
    "pgd": ("--steps", 3, "--set", "norm=l2", "--set", "restarts=2"),
    "smallest": ("--steps", 3, "--set", "attack=pgd", "--set", "tolerance=0.05"),
    "deepfool": ("--set", "norm=linf"),
    "spatial": ("--set", "angles=3", "--set", "shifts=1"),
    "patch": ("--target", 3, "--steps", 5),
    "substitute": ("--set", "rounds=1", "--set", "attack=pgd", "--steps", 3),
}


@pytest.fixture(scope="module")
def levels_weights(tmp_path_factory):
    network = rawcnn.create("cifar_resnet20", size=8, discretize="onehot", levels=8)
    path = tmp_path_factory.mktemp("weights") / "levels.safetensors"
    rawcnn.save_weights(network, path)
    return path


@pytest.mark.sample("^pgd$")
@pytest.mark.parametrize("name", [*EXTRA, "logit_pga"])
def test_every_attack_writes_its_files(rawcnn_command, digits_weights, levels_weights, tmp_path, name):
    weights = levels_weights if name == "logit_pga" else digits_weights
    words = ("attack", name, "cifar_resnet20", "--data", "digits", "--weights", weights, "--count", 10, "--batch", 8)
    words += ("--epsilon", 0, "--epsilon", 0.2, "--output", tmp_path / "out", "--json", *EXTRA.get(name, ()))
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    record = json.loads(out)
    rows = record["accuracy_against_epsilon"]
    assert [row["epsilon"] for row in rows] == [0, 0.2] and record["images"] == rows[0]["images"] == 10
    assert record["weights"] == weights.name and record["batch"] == 8
    assert name != "pgd" or (record["restarts"], record["steps"], record["step"]) == (2, 3, "epsilon / 4")
    assert name != "bim" or (record["early_stop"] is False and rows[1]["iterations"] == 2)
    assert rows[1]["accuracy_after"] <= rows[0]["accuracy_after"] == rows[0]["accuracy_before"]
    assert json.loads((tmp_path / "out" / "attack.json").read_text()) == record
    made = {"patch": {"patch.png"}, "substitute": {"substitute.safetensors"}}.get(name, set())
    files = {"attack.json", "curve.png", "examples.npz", "examples.png", "outcomes.jsonl"} | made
    assert {file.name for file in (tmp_path / "out").iterdir()} == files
    with np.load(tmp_path / "out" / "examples.npz") as arrays:
        assert arrays["images"].shape == arrays["originals"].shape == (8, 8, 8, 3)
    for picture in ("curve.png", "examples.png"):
        with Image.open(tmp_path / "out" / picture) as image:
            assert min(image.size) > 300
    assert f"attack={name}" in err and "seed=0" in err


@pytest.mark.sample("direct")
@pytest.mark.parametrize("encoding", ["direct", "cppn", "gradient"])
def test_evolve_writes_its_files(rawcnn_command, digits_weights, tmp_path, encoding):
    words = ("attack", "evolve", "cifar_resnet20", "--weights", digits_weights, "--output", tmp_path, "--json")
    length = ("--steps", 3) if encoding == "gradient" else ("--set", "generations=2", "--set", "population=12")
    code, out, err = rawcnn_command(*words, "--set", f"encoding={encoding}", *length)
    assert code == 0, err
    record = json.loads(out)
    assert len(record["confidences"]) == 10 and record["encoding"] == encoding
    with np.load(tmp_path / "fooling.npz") as arrays:
        assert arrays["images"].shape == (10, 8, 8, 3)
    if encoding == "direct":  # resumes from its checkpoint
        code, out, err = rawcnn_command(*words, "--set", "generations=4", "--set", "population=12")
        assert code == 0 and json.loads(out)["rounds"] == 4
        code, _, err = rawcnn_command(*words, "--set", "generations=4", "--set", "population=13")
        assert code == 2 and "population" in err.splitlines()[-1]


def test_files_are_written_all_or_none(tmp_path):
    (tmp_path / "old.json").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_files(tmp_path) as folder:
        (folder / "old.json").write_text("new")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"] and (tmp_path / "old.json").read_text() == "old"
    with atomic_files(tmp_path / "deeper") as folder:
        (folder / "new.json").write_text("new")
        assert not (tmp_path / "deeper" / "new.json").exists()
    assert [file.name for file in (tmp_path / "deeper").iterdir()] == ["new.json"]


@pytest.mark.sample("pgd")
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_changes_stay_within_epsilon(rawcnn_command, digits_weights, tmp_path, name):
    words = ("attack", name, "cifar_resnet20", "--data", "digits", "--weights", digits_weights, "--count", 16)
    words += ("--epsilon", 0, "--epsilon", 0.1, "--output", tmp_path / "out", "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    rows = json.loads(out)["accuracy_against_epsilon"]
    assert [row["epsilon"] for row in rows] == [0, 0.1] and rows[1]["accuracy_after"] <= rows[0]["accuracy_after"]
    assert json.loads((tmp_path / "out" / "attack.json").read_text()) == json.loads(out)
    with np.load(tmp_path / "out" / "examples.npz") as files:
        assert np.max(np.abs(files["images"] - files["originals"])) <= 0.1 + 1e-6
    with Image.open(tmp_path / "out" / "examples.png") as picture:
        assert min(picture.size) > 300


DIGITS = ("cifar_resnet20", "--data", "digits")
WRONG = {
    "unknown attack": (("magic", *DIGITS), "the attacks are fgsm, bim, mi_fgsm, pgd, smallest, deepfool"),
    "no data": (("fgsm", "cifar_resnet20"), "give --data"),
    "unknown setting": (("pgd", *DIGITS, "--set", "foo=1"), "pgd has no setting foo; its settings are step="),
    "a setting that is none": (("pgd", *DIGITS, "--set", "foo"), "--set is 'foo'; expected NAME=VALUE"),
    "no target": (("patch", *DIGITS), "give a target"),
    "a target for none": (("deepfool", *DIGITS, "--target", 3), "deepfool has no target"),
    "a target beyond": (("fgsm", *DIGITS, "--target", 30), "expected 0 to 9"),
    "an epsilon in levels": (("fgsm", *DIGITS, "--epsilon", 8), "8 of 255 levels are 8/255"),
    "pixels, not levels": (("logit_pga", *DIGITS), "reads pixels, not levels"),
    "a method": (("spatial", *DIGITS, "--set", "method=best"), "expected one of grid, worst, first-order"),
    "another attack inside": (("smallest", *DIGITS, "--set", "attack=cw"), "expected fgsm or pgd"),
    "another attack on a substitute": (
        ("substitute", *DIGITS, "--set", "attack=cw", "--set", "rounds=1", "--epsilon", 0.1),
        "expected one of fgsm, bim, mi_fgsm, pgd",
    ),
    "a truth value that is none": (
        ("pgd", *DIGITS, "--set", "early_stop=maybe"),
        "early_stop is 'maybe'; expected true or false",
    ),
    "words for numbers": (("pgd", *DIGITS, "--set", "step=abc"), "step is 'abc'; expected a number"),
    "a step that is none": (("pgd", *DIGITS, "--set", "step=8/0"), "step is '8/0'; expected a number"),
    "a word for an angle": (("spatial", *DIGITS, "--set", "rotation=abc"), "rotation is 'abc'; expected a number"),
    "one number for two": (("patch", *DIGITS, "--target", 3, "--set", "scale=0.5"), "scale is 0.5; expected two"),
    "half a reservoir": (("substitute", *DIGITS, "--set", "reservoir=5"), "reservoir is 5; expected a round and"),
    "a distance below zero": (("deepfool", *DIGITS, "--epsilon", -3), "'-3' is not an amount; expected 0 or more"),
    "a distance that is none": (
        ("smallest", *DIGITS, "--epsilon", "nan"),
        "Invalid value for '--epsilon': 'nan' is not an amount",
    ),
    "evolve": (("evolve", "cifar_resnet20", "--set", "foo=1"), "evolve has no setting foo"),
    "evolve from images": (("evolve", *DIGITS, "--target", 3), "leave out --data, --target"),
    "evolve in another way": (("evolve", "cifar_resnet20", "--set", "encoding=foo"), "one of direct, cppn, gradient"),
    "a rate that is none": (
        ("evolve", "cifar_resnet20", "--set", "encoding=gradient", "--set", "rate=abc"),
        "rate is 'abc'; expected a number",
    ),
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, tmp_path, words, message):
    few = () if words[0] == "evolve" else ("--count", 4)
    code, out, err = rawcnn_command("attack", *words, *few, "--output", tmp_path / "out")
    assert code == 2 and message in err.strip().splitlines()[-1] and "Traceback" not in err
    assert not out.strip() and not list((tmp_path / "out").glob("*"))


BEFORE = {  # refused before any image is attacked and before anything is made
    "another number of classes": (("fgsm", *DIGITS, "--classes", 7), "digits has 10 classes, but cifar_resnet20 was"),
    "fewer classes": (("spatial", *DIGITS, "--classes", 12), "give it --classes 10"),
    "a patch for other classes": (("patch", *DIGITS, "--classes", 7, "--target", 3), "digits has 10 classes"),
    "a substitute of other classes": (("substitute", *DIGITS, "--classes", 7), "digits has 10 classes"),
    "a patch for a class that does not exist": (("patch", *DIGITS, "--target", 10), "got the class 10 in target; "),
    "a target that does not exist": (("pgd", *DIGITS, "--target", 10), "expected 0 to 9: the network has 10"),
    "a fraction that is none": (("fgsm", *DIGITS, "--epsilon", "8/0"), "'8/0' is not an amount; expected 0 or more"),
    "the second epsilon": (("pgd", *DIGITS, "--epsilon", 0, "--epsilon", 1.5), "epsilon is 1.5; expected 0 to 1"),
    "the second length": (
        ("pgd", *DIGITS, "--set", "norm=l2", "--epsilon", 1, "--epsilon", -1),
        "'-1' is not an amount",
    ),
    "a share above 1": (("spatial", *DIGITS, "--epsilon", 1.5), "epsilon is 1.5; expected 0 to 1, the share"),
    "a patch larger than a disc": (("patch", *DIGITS, "--target", 3, "--epsilon", 0.9), "expected 0 to 0.785"),
    "an infinite epsilon": (("fgsm", *DIGITS, "--epsilon", "inf"), "'inf' is not an amount"),
    "an attack on the substitute": (("substitute", *DIGITS, "--set", "attack=cw"), "expected one of fgsm, bim"),
    "steps on the substitute": (("substitute", *DIGITS, "--set", "attack=pgd", "--set", "steps=two"), "steps is 'two'"),
}


@pytest.mark.sample("another number", "patch larger")
@pytest.mark.parametrize("words, message", BEFORE.values(), ids=BEFORE)
def test_what_does_not_fit_is_refused_before_the_work(rawcnn_command, tmp_path, monkeypatch, words, message):
    from rawcnn.attacks import dataset_study

    monkeypatch.setattr(dataset_study, "examples_of", None)  # the first work of every attack
    monkeypatch.setattr("rawcnn.attacks.black_box.Trainer.__call__", None)  # and of what is made before an attack
    monkeypatch.setattr("rawcnn.attacks.adversarial_patch.compiled", None)
    code, out, err = rawcnn_command("attack", *words, "--output", tmp_path / "out")
    assert code == 2 and message in err.strip().splitlines()[-1] and "Traceback" not in err
    assert not out.strip() and not list((tmp_path / "out").glob("*"))


@pytest.mark.sample("pgd")
@pytest.mark.parametrize("name", ["pgd", "deepfool", "smallest", "spatial", "patch"])
def test_weights_that_answer_nan_are_never_fooled(rawcnn_command, tmp_path, name):
    network = rawcnn.create("cifar_resnet20", size=8)
    weights = network.variables["classifier/weights"]
    weights.assign(tf.where(tf.range(weights.shape[0])[:, None] % 2 == 0, 3e38, -3e38) * tf.ones_like(weights))  # ∞ − ∞
    rawcnn.save_weights(network, tmp_path / "nan.safetensors")
    words = ("attack", name, *DIGITS, "--weights", tmp_path / "nan.safetensors", "--count", 4, "--json", "--output")
    code, out, err = rawcnn_command(*words, tmp_path / "out", "--epsilon", 0.1, *EXTRA.get(name, ()))
    assert code == 0, err
    (row,) = json.loads(out)["accuracy_against_epsilon"]
    assert row["accuracy_before"] == row["accuracy_after"] == 0 and row["success_rate"] is None
    with np.load(tmp_path / "out" / "examples.npz") as files:
        assert np.isfinite(files["images"]).all()


def test_epsilons_and_steps_may_be_fractions(rawcnn_command, tmp_path, monkeypatch):
    def study(name, network, data, epsilons, *, settings, **others):
        raise ValueError(f"epsilons {epsilons}, settings {settings}")

    monkeypatch.setattr("rawcnn.attacks.study", study)
    words = ("attack", "pgd", *DIGITS, "--epsilon", "8/255", "--epsilon", "0.1", "--set", "step=2/255")
    code, _, err = rawcnn_command(*words, "--output", tmp_path / "out")
    expected = f"epsilons {[8 / 255, 0.1]}, settings {{'step': {2 / 255}}}"
    assert code == 2 and err.splitlines()[-1] == f"rawcnn: {expected}"


@pytest.mark.slow
def test_adversarial_training(rawcnn_command, tmp_path):
    words = (
        "train",
        "cifar_resnet20",
        "--epochs",
        1,
        "--output",
        tmp_path,
        "--adversarial",
        "25.5/255",
        "--adversarial-steps",
        2,
    )
    code, out, err = rawcnn_command(*words, "--json")
    assert code == 0, err
    assert "adversarial=0.1  step=0.025  steps=2" in err and json.loads(out.splitlines()[-1])["result"]
    code, _, err = rawcnn_command(*words, "--adversarial", 0.2)
    assert code == 2 and "adversary" in err.splitlines()[-1]  # another run is in the folder
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--adversarial", 8, "--output", tmp_path / "other")
    assert code == 2 and "epsilon is 8" in err.splitlines()[-1]
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--adversarial-steps", 3, "--output", tmp_path / "other")
    assert code == 2 and "give that, too" in err.splitlines()[-1]


VALUES = [  # a value of each type that each setting refuses
    *[(name, f"step={value}") for name in ("bim", "pgd") for value in ("abc", "nan", "", "-1", "[1, 2]x")],
    *[(name, "steps=0.5") for name in ("bim", "mi_fgsm", "pgd", "deepfool", "logit_pga", "spatial", "patch")],
    ("pgd", "norm=l3"), ("pgd", "momentum=inf"), ("pgd", "restarts=0"), ("pgd", "precision=float8"),
    ("pgd", "random_start=maybe"), ("pgd", "early_stop=2"), ("pgd", "step={[]: 1}"), ("mi_fgsm", "momentum=-1"),
    ("smallest", "largest=2"), ("smallest", "tolerance=0"), ("smallest", "attack=bim"), ("smallest", "restarts=no"),
    ("deepfool", "overshoot=nan"), ("deepfool", "candidates=1"), ("logit_pga", "xi=abc"), ("logit_pga", "xi=nan"),
    ("spatial", "step=abc"), ("spatial", "step=2"), ("spatial", "method=all"), ("spatial", "rotation=181"),
    ("spatial", "translation=far"), ("spatial", "angles=0"), ("spatial", "shifts=1e9"), ("spatial", "trials="),
    ("patch", "rate=abc"), ("patch", "scale=1"), ("patch", "batch=0"), ("patch", "rotation=nan"), ("patch", "size=x"),
    ("substitute", "attack=spatial"), ("substitute", "limit=5"), ("substitute", "rounds=0"), ("substitute", "turn=0"),
    ("substitute", "augmentation=2"), ("substitute", "reservoir=3"), ("substitute", "steps=0"),
    ("evolve", "generations=0"), ("evolve", "population=abc"), ("evolve", "size=-1"), ("evolve", "colours=cmyk"),
    ("evolve", "grey=maybe"), ("evolve", "every=0"),
]  # fmt: skip


@pytest.mark.sample(11)
@pytest.mark.parametrize("name, setting", VALUES)
def test_values_of_settings_are_refused_before_anything_is_printed(
    rawcnn_command, monkeypatch, tmp_path, name, setting
):
    """Not even the network is built."""
    monkeypatch.setattr("rawcnn.cli.request.load_network", None)
    words = ("--data", "digits") if name != "evolve" else ()
    words += ("--target", 3) if name == "patch" else ()
    words += ("--output", tmp_path / "out", "--set", setting)
    code, out, err = rawcnn_command("attack", name, "cifar_resnet20", *words)
    assert code == 2 and out == "" and err.count("\n") == 1, err
    assert setting.partition("=")[0] in err.replace("seeds for 5 queries", "limit")
    assert not any(tmp_path.iterdir())
