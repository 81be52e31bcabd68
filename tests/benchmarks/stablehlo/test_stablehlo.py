"""Workloads for machines without TensorFlow: exported, then run in a process that cannot import TensorFlow."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from benchmarks.stablehlo import arrays, export, workloads
from benchmarks.stablehlo.run import main as run_main
from benchmarks.twins.keras import build
from benchmarks.twins.specification import model_of, read_model
from rawcnn.nn.folding import fold
from tests import references
from tests.benchmarks import remotes
from tests.benchmarks.toys import everything, toy

WITHOUT_TENSORFLOW = (
    "import sys; sys.modules['tensorflow'] = None; from benchmarks.stablehlo.run import main; "
    "sys.exit(main(sys.argv[1:]))"
)


def run_without_tensorflow(*words: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """All small workloads."""
    folder = tmp_path_factory.mktemp("workloads")
    assert export.main([str(folder), "--small"]) == 0
    return folder


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    """A folder with one workload: float32 inference."""
    folder = tmp_path_factory.mktemp("inference")
    assert export.main([str(folder), "--small", "--only", "inference cifar_resnet20 float32"]) == 0
    return folder


@pytest.fixture(scope="module")
def convolution(tmp_path_factory):
    """The folder of a convolution by Winograd's form."""
    folder = tmp_path_factory.mktemp("kernel")
    assert export.main([str(folder), "--small", "--only", "winograd"]) == 0
    (workload,) = folder.iterdir()
    return workload


@pytest.mark.slow
def test_all_kinds_run_without_tensorflow(exported, tmp_path):
    """Their results agree with TensorFlow's, and they race against Keras on JAX if it can compute the same."""
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    results = tmp_path / "results.jsonl"
    done = run_without_tensorflow(exported, "--output", results, "--peers", "keras", "--rounds", 1)
    assert done.returncode == 0, done.stderr
    records = {record["settings"]["pjrt"]: record for record in map(json.loads, results.read_text().splitlines())}
    assert {record["settings"]["job"] for record in records.values()} == {
        "inference", "training", "pgd", "visualize", "kernel",
    }  # fmt: skip
    for name, record in records.items():
        figures = record["figures"]
        assert figures["difference"] < (1e-3 if "float32" in name else 5e-2)
        assert figures["flops_per_second"] > 0 and 0 < figures["share_of_matmul"] < 10
        assert figures["bytes_per_second"] > 0 and 0 < figures["share_of_copy"] < 10
        networks = record["settings"]["job"] in ("inference", "training")
        ours = "rawcnn winograd" if record["settings"]["job"] == "kernel" else "rawcnn"
        assert set(figures["seconds"]) == {ours, *(("keras jax", "keras function jax") if networks else ())}
        assert figures["failed"] == {}
        assert record["device"]["gpus"] == []


@pytest.mark.slow
def test_other_answers_are_not_timed(inference, tmp_path):
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    (source,) = inference.iterdir()
    target = tmp_path / source.name
    shutil.copytree(source, target)
    with np.load(source / "answers.npz") as answers:
        np.savez(target / "answers.npz", logits=answers["logits"] * 1.5)
    done = run_without_tensorflow(tmp_path, "--peers")
    assert done.returncode == 2 and "Wrong: cifar_resnet20 inference float32: logits differs by 0.3" in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("output, factor, message", [
    ("conv1/bn/mean", np.nan, "conv1/bn/mean differs by nan"),
    ("classifier/weights/velocity", 9.0, "the length of its outputs is"),
])  # fmt: skip
def test_other_training_steps_are_not_timed(exported, tmp_path, output, factor, message):
    """The loss is right, but an average is NaN, or the gradients differ."""
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    (source,) = exported.glob("*training-float32")
    shutil.copytree(source, tmp_path / source.name)
    with np.load(source / "answers.npz") as answers:
        changed = {**answers, output: answers[output] * factor}
    np.savez(tmp_path / source.name / "answers.npz", **changed)
    manifest = json.loads((source / "manifest.json").read_text())  # only the batch with known results
    (tmp_path / source.name / "manifest.json").write_text(json.dumps({**manifest, "batches": [manifest["checked"]]}))
    done = run_without_tensorflow(tmp_path, "--peers")
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize("size", [20, 5000])
def test_numbers_at_other_places_are_other_numbers(size):
    """A permutation changes no length and no sum."""
    numbers = np.random.default_rng(0).random(size)
    reported = arrays.summary("logits", numbers)
    assert len(reported) == min(size, 1001) and not np.allclose(reported, arrays.summary("logits", numbers[::-1]))
    np.testing.assert_array_equal(reported, arrays.summary("logits", numbers.reshape(2, -1)))


@pytest.mark.slow
def test_images_that_were_not_attacked_are_not_timed(exported, tmp_path):
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    (source,) = exported.glob("*pgd40-float32")
    shutil.copytree(source, tmp_path / source.name)
    with np.load(source / "answers.npz") as answers:
        assert answers["moved"] > 0
        np.savez(tmp_path / source.name / "answers.npz", moved=answers["moved"] * 9, loss=answers["loss"])
    done = run_without_tensorflow(tmp_path, "--peers")
    assert done.returncode == 2 and "the length of its outputs is" in done.stderr


@pytest.mark.deeper
def test_a_peer_that_differs_is_left_out(inference, monkeypatch):
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    from benchmarks.stablehlo import run

    (source,) = inference.iterdir()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(run.peers, "names", lambda *_: ["wrong", "broken", "tired"])
    monkeypatch.setattr(run.peers, "make", remotes.peer)
    race = run.WorkloadRace({"rawcnn": source}, 4, ["all"])
    race.prepare(time.monotonic() + 100)
    limits = {"matmul_flops_per_second": 1e9, "copy_bytes_per_second": 1e9}
    record = race.record(1, run.Machine([], {"float32": limits}), "here")
    assert set(record["figures"]["seconds"]) == {"rawcnn"} and record["command"] == "here"
    failed = record["figures"]["failed"]
    assert "differs by" in failed["wrong"] and failed["broken"] == "ZeroDivisionError: division by zero"
    assert failed["tired"] == "RuntimeError: no more" and set(race.contestants) == {"rawcnn"}
    assert len(multiprocessing.active_children()) == 1  # the process that failed has ended
    race.end()
    assert not multiprocessing.active_children()


def test_forms_of_a_workload_are_raced_with_each_other(convolution, tmp_path, monkeypatch):
    """A form that cannot be compiled is removed without the others."""
    pytest.importorskip("jax", "0.7", reason="programs are run by JAX, 0.7 or later: pip install jax")
    from benchmarks.stablehlo import run

    for form in ("nn", "winograd"):
        shutil.copytree(convolution, tmp_path / form)
        manifest = json.loads((convolution / "manifest.json").read_text())
        (tmp_path / form / "manifest.json").write_text(json.dumps({**manifest, "form": form}))
    ((folders, batch),) = run.races(tmp_path, "", ())
    assert batch == 4 and folders == {"rawcnn nn": tmp_path / "nn", "rawcnn winograd": tmp_path / "winograd"}
    assert run.races(tmp_path, "", [8]) == []
    (tmp_path / "nn" / "program-4.mlirbc").write_bytes(b"no program")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    race = run.WorkloadRace(folders, batch, [])
    race.prepare(time.monotonic() + 100)
    assert set(race.contestants) == {"rawcnn winograd"} and "rawcnn nn" in race.failed
    assert race.contestants["rawcnn winograd"].call("rawcnn winograd", "first").size  # its process still runs
    race.end()


def test_results_that_cannot_be_written(inference, tmp_path):
    done = run_without_tensorflow(inference, "--output", tmp_path / "none" / "results.jsonl")
    assert done.returncode == 2 and "results.jsonl cannot be written" in done.stderr and done.stdout == ""


def test_a_folder_without_workloads(tmp_path, capsys):
    assert run_main([str(tmp_path)]) == 2
    assert "holds no workload; write some with" in capsys.readouterr().err


@pytest.mark.parametrize("words, reported", [
    (("--only", "none", "--batches", "3"), "no workload with 'none' in its name for a batch of 3; leave --only out"),
    (("--batches", "3"), "holds no workload for a batch of 3; leave --batches out, or export it"),
    (("--together", "0"), "--together: 0 is less than 1"),
    (("--rounds", "-1"), "--rounds: -1 is less than 1"),
])  # fmt: skip
def test_nothing_to_run(inference, capsys, words, reported):
    try:
        code = run_main([str(inference), *words])
    except SystemExit as stop:  # from argparse
        code = stop.code
    assert code == 2 and reported in capsys.readouterr().err


def test_nothing_to_export(tmp_path, capsys):
    assert export.main([str(tmp_path), "--small", "--only", "none"]) == 2
    assert "no plan has 'none' in it; expected a part of 'inference cifar_resnet20 float32'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert export.main([str(tmp_path / "file"), "--small", "--only", "inference"]) == 2
    assert "file cannot be written (Not a directory)" in capsys.readouterr().err


def test_folded_arrays_are_rawcnns():
    """The folded weights that the other machine computes with NumPy."""
    workload = workloads.inference("cifar_resnet20", "float32", size=8)
    drawn = arrays.variables(workload.paths)
    network = rawcnn.create("cifar_resnet20", size=8)
    for path, value in drawn.items():
        network.variables[path].assign(value)
    products = fold(network)
    arguments = workload.arguments(1)
    made = dict(zip((a.name for a in arguments), arrays.values(arguments, workload.paths), strict=True))
    for name, (filters, bias) in products.convolutions.items():
        references.close(made[f"{name}/filters"].transpose(1, 2, 3, 0), filters)  # cuDNN's order of axes
        references.close(made[f"{name}/bias"], bias)
    assert [a for a in map(arrays.argument, json.loads(json.dumps([a.spec() for a in arguments])))] == arguments


def test_what_stays_is_in_the_precision_of_the_arithmetic():
    """Filters and weights have the precision of `rawcnn.program`; a training step takes all in float32."""
    stays = workloads.inference("cifar_resnet20", "bfloat16", size=8).arguments(1)
    assert {a.dtype for a in stays if a.name.endswith(("/filters", "/weights"))} == {"bfloat16"}
    moves = workloads.training("cifar_resnet20", "bfloat16", size=8).arguments(1)
    assert {a.dtype for a in moves} == {"float32", "int32"}
    (filters,) = [a for a in moves if a.name == "conv1/filters"]
    assert (filters.shape, filters.program_shape) == ((3, 3, 3, 16), (16, 3, 3, 3))


def test_a_training_step_is_rawcnns():
    """The exported function is the pure step: new weights and velocities, and the carried outputs."""
    workload = workloads.training("cifar_resnet20", "float32", size=8)
    values = arrays.values(workload.arguments(3), workload.paths)
    results = export.program_function(workload, workload.arguments(3))(*map(tf.constant, values))
    named = dict(zip(workload.outputs, results, strict=True))
    assert np.isfinite(float(named["loss"])) and len(workload.carried) == len(results) - 1
    arguments = [a.name for a in workload.arguments(3)]
    assert all(workload.outputs[out] == arguments[into] for out, into in workload.carried)
    assert all(results[out].shape == values[into].shape for out, into in workload.carried)
    before = values[arguments.index("conv1/filters")]
    references.close(named["conv1/filters"], before + named["conv1/filters/velocity"])
    assert 0 < np.max(np.abs(named["conv1/filters/velocity"])) < 1e-2  # with a learning rate of 1e-4
    assert float(values[arguments.index("rate")]) == np.float32(1e-4)


def test_a_model_survives_its_json():
    network = toy(everything)
    model = model_of(network)
    again = read_model(model.to_json())
    assert again == model
    twin = build(again)
    assert twin.count_params() == sum(int(np.prod(v.shape)) for v in network.variables.values())


def test_the_full_plan_is_all_that_is_to_be_measured(monkeypatch):
    """Four networks in both precisions, an attack, a visualization, and all forms of all cases of kernels."""
    plans = list(export.full())
    names = [make.func.__name__ for make, _ in plans if isinstance(make, partial)]
    assert len(names) == len(plans)
    counts = {kind: names.count(kind) for kind in set(names)}
    forms = sum(len(export.forms(case)) for case in export.CASES)
    assert counts == {"inference": 8, "training": 8, "pgd": 2, "visualize": 2, "kernel": 2 * forms}
