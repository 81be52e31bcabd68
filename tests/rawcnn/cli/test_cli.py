"""The command line from the user's side: results on stdout; for errors one line on stderr and exit code 2."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rawcnn import cli
from rawcnn.cli import console
from rawcnn.cli.console import Screen, interrupts
from rawcnn.cli.parsing import without_folders
from rawcnn.training.recipes import RECIPES
from rawcnn.weights import describe


def test_help_does_not_load_tensorflow():
    script = "import sys; from rawcnn.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    script += "assert 'tensorflow' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for verb in (
        "tour",
        "models",
        "profile",
        "paper",
        "train",
        "evaluate",
        "predict",
        "export",
        "attack",
        "visualize",
        "benchmark",
    ):
        assert verb in result.stdout


def test_profile_as_table_json_and_csv(rawcnn_command, tmp_path):
    code, out, _ = rawcnn_command("profile", "alexnet", "--csv", tmp_path / "rows.csv")
    assert code == 0
    assert re.search(r"^conv1 +convolution +1×55×55×96 ", out, re.MULTILINE) and "fully connected layer" in out
    assert "60,965,224 parameters" in out and "724,406,816 MACs" in out
    assert (tmp_path / "rows.csv").read_text().startswith("name,kind,output_shape")
    assert "\nconv1,conv," in (tmp_path / "rows.csv").read_text()  # other programs read the kinds of the code
    code, out, err = rawcnn_command("profile", "resnet50", "--json", "-o", "version=v1.5")
    assert code == 0 and json.loads(out)["totals"]["macs"] == 4_089_184_256
    assert "version=v1.5" in err  # the resolved settings


def test_profile_measures_and_draws(rawcnn_command, tmp_path):
    words = ("profile", "cifar_resnet20", "--size", 8, "--measure", "--plot", tmp_path / "roofline.png", "--json")
    code, out, _ = rawcnn_command(*words)
    assert code == 0
    assert len(json.loads(out)["measured"]["layers"]) == len(json.loads(out)["rows"])
    with Image.open(tmp_path / "roofline.png") as picture:
        assert picture.size > (400, 300)


def test_profile_names_the_slowest_five_and_how_they_ran(rawcnn_command):
    code, out, err = rawcnn_command("profile", "cifar_resnet20", "--size", 8, "--measure", "--compile", "xla")
    assert code == 0, err
    assert "layers run as xla: as requested" in out and "GFLOP/s" in out and "GB/s" in out
    rows = out[out.index("the slowest five") :].splitlines()
    found = [row for row in rows if re.search(r"\d\.\d\d +\d+% +(arithmetic|memory) +\d+%", row)]
    assert len(found) == 5 and any(re.search(r"^\S+ and \d+ alike ", row) for row in found)


@pytest.mark.sample("alexnet", "vgg")
@pytest.mark.parametrize("name", ["alexnet", "vgg", "resnext"])
def test_paper(rawcnn_command, name):
    code, out, _ = rawcnn_command("paper", name)
    assert code == 0 and "printed" in out and "counted" in out
    code, out, _ = rawcnn_command("paper", name, "--json")
    assert json.loads(out)["paper"] == name


def test_train_evaluate_predict_and_resume(rawcnn_command, small_run, tmp_path):
    weights = small_run / "weights.safetensors"
    code, out, err = rawcnn_command("evaluate", "cifar_resnet20", "--data", "digits", "--weights", weights, "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 355

    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(image)
    code, out, err = rawcnn_command("predict", "cifar_resnet20", image, "--weights", weights, "--json", "--top", 3)
    assert code == 0, err
    guesses = json.loads(out)[0]["guesses"]
    assert len(guesses) == 3 and guesses[0]["probability"] >= guesses[1]["probability"]

    assert list((small_run / "events").glob("events.out.tfevents*"))
    words = ("train", "cifar_resnet20", "--epochs", 2, "--output", small_run, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0 and "resuming after epoch 1" in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["epoch"] for line in lines[:-1]] == [2] and "result" in lines[-1]
    assert len(json.loads((small_run / "history.json").read_text())) == 2


def test_a_bad_image_loses_no_prediction(rawcnn_command, tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("no image")
    files = (tmp_path / "text.png", tmp_path / "image.png")
    code, out, err = rawcnn_command("predict", "cifar_resnet20", *files, "--json")
    assert code == 2 and "text.png cannot be read as an image" in err and "Traceback" not in err
    assert [result["file"] for result in json.loads(out)] == [str(files[1])]


def test_all_that_does_not_fit_is_listed(rawcnn_command, data_folder):
    source = data_folder / "cifar-resnet20-torch.safetensors"
    code, out, err = rawcnn_command("weights", "import", "cifar_resnet44", source, "--json")
    assert code == 2 and "it may belong to another network" in err and "; and " in err
    problems = json.loads(out)["problems"]
    assert len(problems) > 100 and all(problem.startswith("missing ") for problem in problems)


def test_weights_import_and_show(rawcnn_command, data_folder, tmp_path):
    source = data_folder / "cifar-resnet20-torch.safetensors"
    ours = tmp_path / "ours.safetensors"
    code, out, err = rawcnn_command("weights", "import", "cifar_resnet20", source, "--output", ours)
    assert code == 0 and ours.is_file(), err
    code, out, _ = rawcnn_command("weights", "show", ours, "--json")
    assert code == 0 and "conv1/filters" in json.loads(out)["tensors"] and json.loads(out)["names"] == "rawcnn"
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {n}" for n in range(10)))
    code, _, err = rawcnn_command("weights", "import", "cifar_resnet20", source, "--output", ours, "--labels", names)
    assert code == 0 and describe(ours)["labels"][3] == "class 3", err
    code, out, err = rawcnn_command("weights", "import", "cifar_resnet20", source, "--json")  # only checked
    assert code == 0 and json.loads(out)["output"] is None, err
    code, _, err = rawcnn_command("weights", "import", "cifar_resnet32", source, "--output", ours)
    assert code == 2 and "nothing was loaded" in err and err.count("\n") <= 2


WRONG = {
    "unknown model": (("profile", "lenet"), "there is no model 'lenet'"),
    "unknown option": (("profile", "alexnet", "-o", "depth=3"), "no option depth"),
    "option without a value": (("profile", "alexnet", "-o", "groups"), "expected NAME=VALUE"),
    "option of the command": (
        ("profile", "alexnet", "-o", "size=64"),
        "--option names size, which is not a setting of a",
    ),
    "unknown verb": (("fly",), "No such command 'fly'; the commands are tour, "),
    "unknown flag": (("profile", "alexnet", "--fly"), "--fly"),
    "not a number": (("profile", "alexnet", "--batch", "many"), "--batch"),
    "too small": (("profile", "vgg16", "--size", "16"), "does not fit"),
    "unknown data": (("train", "cifar_resnet20", "--data", "imagenet"), "imagenet"),
    "unknown recipe": (("train", "cifar_resnet20", "--recipe", "magic"), "there is no recipe 'magic'"),
    "no weights": (
        ("evaluate", "cifar_resnet20", "--data", "digits", "--weights", "none.safetensors"),
        "none.safetensors",
    ),
    "no image": (("predict", "cifar_resnet20", "none.png"), "none.png"),
    "unknown paper": (("paper", "lenet"), "alexnet, vgg, googlenet, resnet"),
    "nothing to train": (("paper", "vgg", "--train"), "rawcnn paper resnet --train"),
    "no folder": (("train", "cifar_resnet20", "--data", "folder:no/such/folder"), "no/such/folder"),
    "no epochs": (("paper", "resnet", "--train", "--epochs", "0"), "--epochs"),
    "half an epoch": (("train", "cifar_resnet20", "--epochs", "0.5"), "--epochs"),
    "no such folder": (("profile", "alexnet", "--csv", "/proc/none/rows.csv"), "the folder of /proc/none/rows.csv"),
    "unknown picture": (("profile", "alexnet", "--plot", "roofline.foo"), "expected .png or .svg or .pdf"),
    "a folder in the way": (("profile", "alexnet", "--csv", "."), "cannot be written"),
    "compiling what is not measured": (("profile", "alexnet", "--compile", "xla"), "give --measure or --plot, too"),
    "wrong classes": (("evaluate", "resnet18", "--data", "digits", "--size", "32"), "10 classes"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _out, err = rawcnn_command(*words)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("rawcnn: ") and message in last
    assert "Traceback" not in err
    assert not (tmp_path / "runs" / "weights.safetensors").exists()


def test_every_recipe_is_in_the_help(rawcnn_command):
    _, out, _ = rawcnn_command("train", "--help")
    words = out.replace(",", " ").replace(".", " ").split()
    assert [name for name in RECIPES if name not in words] == []


@pytest.mark.slow
def test_interrupted_training_says_how_to_resume(tmp_path):
    """Press Ctrl-C in a separate process as soon as the first epoch is reported."""
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # else ignored in the background
    )
    script += "from rawcnn.cli import main; main()"
    command = [sys.executable, "-c", script, "train", "cifar_resnet20", "--output", str(tmp_path / "run"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and json.loads(process.stdout.readline())["epoch"] == 1
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130 and "resume from its last checkpoint" in err and "Traceback" not in err
    assert list((tmp_path / "run" / "checkpoints").glob("ckpt-*/state.index"))


@pytest.mark.parametrize("words, hint", [
    ("train resnet50", "; run the same command again to resume from its last checkpoint"),
    ("attack evolve cifar_resnet20", "; run the same command again to resume from its last checkpoint"),
    ("attack evolve cifar_resnet20 --set encoding=gradient", ""),
    ("attack pgd cifar_resnet20", "; run the same command again to resume"),
    ("data pack pets", "; run the same command again to resume"),
    ("evaluate resnet50 --output file", "; run the same command again to resume"),
    ("evaluate resnet50 --output=file", "; run the same command again to resume"),
    ("evaluate resnet50", ""),
    ("models", ""),
])  # fmt: skip
def test_an_interrupted_command_says_whether_it_resumes(words, hint):
    assert cli._resume_hint(words.split()) == hint


def test_too_little_memory_is_a_line(rawcnn_command, monkeypatch):
    """Both Python's error and TensorFlow's are reported."""
    import rawcnn.training.run

    for error in (MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nmore")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(rawcnn.training.run, "prepare", fail)
        code, _, err = rawcnn_command("train", "cifar_resnet20")
        assert code == 2 and "there is not enough memory" in err and "Traceback" not in err
    assert "(OOM when allocating tensor); choose a smaller network, size or batch" in err


def test_minutes_between_checkpoints(rawcnn_command, monkeypatch):
    import rawcnn.training.run

    def report(*_, save_every, **__):
        raise ValueError(f"{save_every} seconds")

    monkeypatch.setattr(rawcnn.training.run.Plan, "training", report)
    assert "90.0 seconds" in rawcnn_command("train", "cifar_resnet20", "--save-every", 1.5)[2]


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(tmp_path):
    """A cluster takes a machine back: the exit code is 0, and the same command resumes within the epoch."""
    words = ["train", "cifar_resnet20", "--output", str(tmp_path / "run"), "--json"]
    command = [sys.executable, "-m", "rawcnn", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and json.loads(process.stdout.readline())["epoch"] == 1
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 0 and "stopped on request after epoch" in err and "Traceback" not in err
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and json.loads(process.stdout.readline())["epoch"] >= 2
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 0 and "resuming after epoch" in err


def test_sigterm_before_the_training_begins(rawcnn_command, tmp_path, monkeypatch):
    from rawcnn.cli import train

    monkeypatch.setattr(train, "load_data", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    code, out, _ = rawcnn_command("train", "cifar_resnet20", "--output", tmp_path / "run")
    assert code == 0 and "stopped on request before the training started" in out
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_done_writes_again_what_it_says_that_it_wrote(rawcnn_command, small_run):
    names = ("weights.safetensors", "history.json", "curves.png")
    before = {name: (small_run / name).read_bytes() for name in names}
    for name in names:
        (small_run / name).unlink()
    code, out, err = rawcnn_command("train", "cifar_resnet20", "--epochs", 1, "--output", small_run)
    assert code == 0 and all(str(small_run / name) in out.replace("\n", "") for name in names), err
    for name in ("weights.safetensors", "history.json"):
        assert (small_run / name).read_bytes() == before[name]
    assert (small_run / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "words, message",
    [
        (("--restarts", 3), "--restarts and --wait belong to --strategy multiworker; give that, too"),
        (("--wait", 3, "--strategy", "mirrored"), "--restarts and --wait belong to --strategy multiworker"),
        (
            ("--profile-input", "--strategy", "mirrored"),
            "--profile-input measures a single device; leave",
        ),
        (("--rate", "nan"), "--rate is nan; expected a finite number"),
        (("--memory", "inf"), "Invalid value for '--memory'"),
        *((("--adversarial", text), f"'{text}' is not an amount; expected 0 or more") for text in ("8/0", "nan", "-1")),
        *((("--adversarial-step", text), f"'{text}' is not an amount") for text in ("a/b", "inf", "-inf/2", "", "/")),
        (
            ("--strategy", "mirrored", "--replicas", 5000),
            "cannot be divided into 5000 equal parts",
        ),
        (("--size", 10**6), "GiB for its parameters and one map of one image; this machine has"),
        (("--size", 10**10), "size is 10000000000; expected 2,147,483,648 at most"),
    ],
)
def test_options_that_do_not_fit(rawcnn_command, tmp_path, words, message):
    code, _, err = rawcnn_command("train", "cifar_resnet20", *words, "--output", tmp_path / "run")
    assert code == 2 and message in err and not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_dropped_stops_at_the_next_step(monkeypatch):
    """Python only prints what a destructor raises, so Ctrl-C at that moment must be remembered."""

    class Doomed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    with interrupts.remembered(), Screen(as_json=True).progress_bar("work") as report:
        report(1, 3)
        Doomed()
        with pytest.raises(KeyboardInterrupt):
            report(2, 3)
    interrupts.pressed = False


def test_a_log_gets_a_line_about_progress_twice_a_minute(monkeypatch, capsys):
    seconds = iter([0, 10, 31, 31, 40, 62, 62])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with Screen(as_json=True).progress_bar("work") as report:
        for step in range(1, 5):
            report(step, 4)
    lines = [line for line in capsys.readouterr().err.splitlines() if ":" in line and " of " in line]
    assert lines == ["work: 2 of 4", "work: 4 of 4"]


@pytest.mark.slow
def test_depth_is_compared(rawcnn_command, tmp_path):
    words = ("paper", "resnet", "--train", "--data", "digits", "--epochs", 1, "--batch", 512, "--output", tmp_path)
    code, out, err = rawcnn_command(*words, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert list(result["histories"]) == ["cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56"]
    assert "plain: depth" in result["verdict"] and "resnet: depth" in result["verdict"]
    assert json.loads((tmp_path / "depth.json").read_text()) == result["histories"]
    with Image.open(tmp_path / "depth.png") as picture:
        assert picture.size > (900, 400)


def test_unreadable_image_is_named_and_can_be_skipped(rawcnn_command, tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "pets" / "cat" / "broken.png").write_bytes(b"no image")
    words = ("train", "cifar_resnet20", "--data", f"folder:{tmp_path / 'pets'}", "--batch", 4, "--epochs", 1)
    words += ("--output", tmp_path / "run")
    code, _, err = rawcnn_command(*words)
    assert code == 2 and "broken.png" in err and "--skip-unreadable" in err
    code, _out, err = rawcnn_command(*words, "--skip-unreadable")
    assert code == 0 and "skipped 1 unreadable" in err, err


@pytest.mark.deeper
def test_loss_that_is_no_number_stops_with_a_line(rawcnn_command, tmp_path):
    words = ("train", "cifar_resnet20", "--rate", 1e30, "--epochs", 1, "--output", tmp_path / "run")
    code, _, err = rawcnn_command(*words)
    assert code == 2 and "the loss is" in err and "--rate" in err
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    "word, kept",
    [
        ("/a/b c/w.npz", "w.npz"),
        ("../a/w.npz", "w.npz"),
        ("~/w.npz", "w.npz"),
        ("folder:/a/cifar10/", "folder:cifar10/"),
        ("--weights=/a/w.npz", "--weights=w.npz"),
        ("benchmarks/results/races.jsonl", "benchmarks/results/races.jsonl"),
        ("folder:cifar10", "folder:cifar10"),
        ("--rounds", "--rounds"),
    ],
)
def test_a_record_keeps_no_folders_of_this_machine(word, kept):
    assert without_folders(word) == kept


@pytest.mark.parametrize(
    "words",
    [
        ("attack", "pgd", "cifar_resnet20", "--set", "steps=0", "--count", "2"),
        ("attack", "patch", "cifar_resnet20", "--target", "12"),
        ("visualize", "optimize", "cifar_resnet20", "--channel", "10"),
        ("visualize", "saliency", "cifar_resnet20", "none.png"),
    ],
)
def test_bad_input_leaves_no_folder(rawcnn_command, tmp_path, words):
    output = tmp_path / "deep" / "er"
    code, _, err = rawcnn_command(*words, "--output", output / "x.png" if words[0] == "visualize" else output)
    assert code == 2 and err.splitlines()[-1].startswith("rawcnn: ")
    assert not (tmp_path / "deep").exists()
