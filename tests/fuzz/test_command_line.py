"""Hostile arguments and file names: each command ends with exit code 0, or with 2 and a message of one line.

To save time, a command ends before it compiles its first function.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import typer
from PIL import Image

import rawcnn
from rawcnn.cli import app
from rawcnn.models import MODELS, ModelEntry
from tests.rawcnn import small
from tests.rawcnn.report.test_report import Reader

HOSTILE = (
    "", " ", "-1", "0", "1e999", "nan", "inf", "-0", "007", "٣", "1_000", "0x10", "9" * 40, "a" * 5000,
    "../../etc/passwd", "/", ".", "..", "~", "<script>alert(1)</script>", "a&b", "\n", "a\nb", "\t", "\x1b[31m",
    "%s%n%d", "{0}", "{}", "$(id)", "`id`", "'; --", "[red]x[/red]", "[/]", "é", "\u202e", "\ud83d\ude00", "😀", "=",
    "a=", "=b", "a=b", "a=[", "a=__import__('os')", "shortcut=A", "groups=0", "1,2", "1,", ",", "5:2", "digits",
    "folder:", "folder:/nonexistent", "records:.", "tfds:x", "None", "True", "null", "resnet51", "small", "conv1",
    "float64", "xla", "-", "--", "--json", "-o",
)  # fmt: skip
# `models` has no arguments that could be wrong; `tour` and `benchmark` have separate tests.
LEFT_OUT = {"models", "tour", "benchmark"}
SECONDS = 60


def commands(group=None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    """Return (its words, its parameters) of every verb."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if name in LEFT_OUT:
            continue
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command.params


VERBS = list(commands())
RIGHT = {  # valid arguments of each verb; FOLDER is that of `hostile`
    "profile": ["small"],
    "paper": ["alexnet"],
    "explain": ["small", "FOLDER/image.png", "--weights", "FOLDER/w.safetensors"],
    "train": ["small"],
    "evaluate": ["small", "--weights", "FOLDER/w.safetensors", "--data", "folder:FOLDER/images"],
    "predict": ["small", "FOLDER/image.png", "--weights", "FOLDER/w.safetensors"],
    "export": ["small", "--weights", "FOLDER/w.safetensors"],
    "attack": ["fgsm", "small", "--weights", "FOLDER/w.safetensors", "--data", "folder:FOLDER/images"],
    "exercise list": [],
    "exercise start": ["1", "--folder", "FOLDER"],
    "exercise check": ["1", "--folder", "FOLDER"],
    "exercise hint": ["1"],
    "exercise solution": ["1"],
    "visualize filters": ["small"],
    "visualize top-inputs": ["small", "--layer", "conv1", "--channel", "1", "--data", "folder:FOLDER/images"],
    "visualize deconv": ["small", "FOLDER/image.png", "--layer", "conv1"],
    "visualize saliency": ["small", "FOLDER/image.png"],
    "visualize optimize": ["small", "--layer", "conv1", "--channel", "1"],
    "visualize building-blocks": ["small", "FOLDER/image.png", "--layer", "conv1"],
    "visualize atlas": ["small", "--layer", "conv1", "--data", "folder:FOLDER/images"],
    "visualize page": ["small", "--layer", "conv1", "--data", "folder:FOLDER/images"],
    "weights import": ["small", "FOLDER/w.safetensors"],
    "weights fetch": ["resnet50"],
    "weights show": ["FOLDER/w.safetensors"],
    "data pack": ["FOLDER/images"],
}
NAMES = (
    "<script>alert(1)</script>", "a&b<marquee>", '"quoted"', "'single'", "{{ 7*7 }}", "{% raw %}", "%s",
    "naïve Füchsin", "😀", "\u202egpj.exe", "--rm -rf", "[red]x", "a\nb", "a\tb", "back\\slash", "x" * 200, "$(id)",
    "`id`", "&lt;", "]]>",
)  # fmt: skip


class Enough(ValueError):
    """Raised when the arguments were accepted, so that the verb's work does not start."""


class Late(BaseException):
    """Raised on a timeout; the command line does not turn it into a one-line message."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise Late after these seconds, because no command may hang."""

    def ring(*_):
        raise Late(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A folder of images whose classes and files have hostile names, an image, and the weights of a network."""
    root = tmp_path_factory.mktemp("hostile")
    generator = np.random.default_rng(0)

    def image(file: Path) -> None:
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(file)

    for split in ("train", "test"):
        for number, name in enumerate(NAMES):
            folder = root / "images" / split / name.replace("/", "∕")  # file names cannot contain a slash
            folder.mkdir(parents=True)
            for k in range(2):
                image(folder / f"{NAMES[(number + k) % len(NAMES)].replace('/', '∕')[:100]}.png")
    image(root / "image.png")
    network = small.network(classes=len(NAMES))
    network.labels = tuple(sorted(NAMES))
    rawcnn.save_weights(network, root / "w.safetensors")
    return root


@pytest.fixture
def command(rawcnn_command, tmp_path, monkeypatch):
    """Run the command line with the small network in `tmp_path`/inside; return (exit code, stdout, stderr)."""
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "inside"))
    monkeypatch.setitem(MODELS, "small", ModelEntry(small.model, "a test", 8, len(NAMES)))
    return rawcnn_command


def wrong_words(seed: int) -> list[str]:
    """Return a verb with hostile values for all required arguments and at least three options."""
    generator = np.random.default_rng(seed)
    verb, parameters = VERBS[seed % len(VERBS)]
    options = [p for p in parameters if p.param_type_name == "option" and "--help" not in p.opts]
    words = [str(generator.choice(HOSTILE)) for p in parameters if p.param_type_name == "argument"]
    for k in generator.permutation(len(options))[: int(generator.integers(3, 8))]:
        given = [options[k].opts[0], *([] if options[k].is_flag else [str(generator.choice(HOSTILE))])]
        words = words + given if generator.random() < 0.7 else given + words
    return [*verb, *words]


def nearly_right_words(seed: int, folder: Path) -> list[str]:
    """Return valid arguments of a verb with one hostile word added or replaced."""
    generator = np.random.default_rng(seed)
    verb, parameters = VERBS[seed % len(VERBS)]
    words = [word.replace("FOLDER", str(folder)) for word in RIGHT[" ".join(verb)]]
    options = [p for p in parameters if p.param_type_name == "option" and not p.is_flag]
    if not words and not options:
        words = [str(generator.choice(HOSTILE))]
    elif words and (not options or generator.random() < 0.3):
        words[int(generator.integers(len(words)))] = str(generator.choice(HOSTILE))
    else:
        words += [options[int(generator.integers(len(options)))].opts[0], str(generator.choice(HOSTILE))]
    return [*verb, *words]


def end_at_work(monkeypatch) -> None:
    def enough(*_, **__):
        raise Enough("the words were right")

    monkeypatch.setattr(tf, "function", enough)
    monkeypatch.setattr("rawcnn.weights.download.fetch", enough)
    monkeypatch.setattr("rawcnn.cli.supervise.run_supervised", enough)


def check(words: list[str], command, tmp_path: Path) -> None:
    with limit(SECONDS):
        code, out, err = command(*words)
    assert code in (0, 2), (words, err[-2000:])
    assert "Traceback" not in err + out
    if code == 2:
        assert err.strip().splitlines()[-1].startswith("rawcnn: "), (words, err[-500:])
    assert [path.name for path in tmp_path.iterdir()] == ["inside"] or ".." in words, words


@pytest.mark.sample(7)
@pytest.mark.parametrize("seed", range(300))
def test_wrong_words(command, tmp_path, monkeypatch, seed):
    end_at_work(monkeypatch)
    check(wrong_words(seed), command, tmp_path)


@pytest.mark.sample(7)
@pytest.mark.parametrize("seed", range(300))
def test_nearly_right_words(command, hostile, tmp_path, monkeypatch, seed):
    end_at_work(monkeypatch)
    check(nearly_right_words(seed, hostile), command, tmp_path)


NUMBERS = ("nan", "inf", "1e300", "-1", "0", "100000", "2147483648", "9" * 30)
NUMERIC = [
    (verb, option.opts[0])
    for verb, parameters in VERBS
    for option in parameters
    if option.param_type_name == "option" and option.type_descriptor.annotation in (int, float)
]


@pytest.mark.sample(14)
@pytest.mark.parametrize("verb, option", NUMERIC, ids=[" ".join((*verb, option)) for verb, option in NUMERIC])
def test_numbers_that_nobody_would_give(command, hostile, tmp_path, monkeypatch, verb, option):
    """Try hostile numbers for each numeric option of each verb; all other arguments are valid."""
    end_at_work(monkeypatch)
    words = [word.replace("FOLDER", str(hostile)) for word in RIGHT[" ".join(verb)]]
    for number in NUMBERS:
        check([*verb, *words, option, number], command, tmp_path)


WORK = {  # valid arguments, with the files that they write
    "evaluate": ("small", "--data", "folder:FOLDER/images", "--weights", "FOLDER/w.safetensors", "--output", "e.jsonl"),
    "predict": ("small", "FOLDER/image.png", "--weights", "FOLDER/w.safetensors"),
    "train": (
        "small", "--recipe", "onecycle", "--data", "folder:FOLDER/images", "--epochs", 1, "--batch", 8,
        "--output", "run",
    ),
    "attack": ("fgsm", "small", "--data", "folder:FOLDER/images", "--weights", "FOLDER/w.safetensors", "--output", "a"),
    "export": ("small", "--weights", "FOLDER/w.safetensors", "--format", "savedmodel", "--output", "served"),
    "visualize top-inputs": (
        "small", "--data", "folder:FOLDER/images", "--layer", "conv1", "--channel", 1, "--output", "top.png",
    ),
    "weights show": ("FOLDER/w.safetensors",),
    "data pack": ("FOLDER/images", "--output", "records"),
    "explain": ("small", "IMAGE", "--weights", "FOLDER/w.safetensors", "--output", "page"),
}  # fmt: skip
PAGES = {
    "page": ("small", "--data", "folder:FOLDER/images", "--layer", "conv2", "--channel", 1, "--count", 2, "--steps", 2),
    "building-blocks": ("small", "IMAGE", "--layer", "conv2", "--limit", 2, "--groups", 2, "--steps", 2),
    "atlas": ("small", "--data", "folder:FOLDER/images", "--layer", "conv2", "--grid", 2, "--minimum", 1, "--steps", 2),
}


def in_folder(words, folder: Path) -> list[object]:
    """Return the words with the folder inserted."""
    image = max((folder / "images" / "test").rglob("*script*.png"))
    return [str(word).replace("FOLDER", str(folder)).replace("IMAGE", str(image)) for word in words]


@pytest.mark.sample(3)
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("verb", WORK)
def test_hostile_names_in_results(command, hostile, tmp_path, verb, as_json):
    code, out, err = command(*verb.split(), *in_folder(WORK[verb], hostile), *as_json)
    assert code == 0, err[-2000:]
    if as_json:
        assert all(json.loads(line) for line in (out.splitlines() if verb == "train" else [out]))
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@pytest.mark.sample(3)
@pytest.mark.parametrize("verb", PAGES)
def test_hostile_names_on_pages(command, hostile, tmp_path, verb):
    """Names are shown as text: tags, scripts and templates in them have no effect."""
    given = "--weights", hostile / "w.safetensors", "--output", "out/page.html"
    code, _, err = command("visualize", verb, *in_folder(PAGES[verb], hostile), *given)
    assert code == 0, err[-2000:]
    html = (tmp_path / "inside" / "out" / "page.html").read_text(encoding="utf-8")
    read = Reader(html)
    assert not read.all("marquee") and "alert(1)" not in "".join(re.findall(r"<script.*?</script>", html, re.DOTALL))
    if verb != "page":  # which shows only pictures
        assert any(name in read.text for name in NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["out"]
