"""The table of GPUs, the kinds of kernels in a profile, and the forms selected on a GPU."""

import json
import shutil
from dataclasses import asdict

import pytest
import tensorflow as tf

from benchmarks.races.kernels import KernelCase
from benchmarks.stablehlo import forms
from benchmarks.stablehlo.spent import by_kind
from benchmarks.tables import documents as tables
from kernels.dispatch import selection
from kernels.dispatch.selection import SHIPPED
from kernels.forms.compiler import compiled_by
from kernels.forms.convolutions import FILTER_GRADIENT, GROUPED_JOBS, INPUT_GRADIENT, JOBS


@pytest.mark.parametrize("kernel, kind", [
    ("sm80_xmma_fprop_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize256x64x32", "convolutions"),
    ("nvjet_sm90_tst_128x256_64x4_2x1_v_bx_coopA_relubias_TNN", "convolutions"),
    ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64>", "convolutions"),
    ("gemm_fusion_dot_9", "matmuls"),
    ("void nhwcAddPaddingKernel<__nv_bfloat16, __nv_bfloat16, float, true>(int, int)", "copies"),
    ("input_transpose_fusion_3", "copies"),
    ("Memset 3", "copies"),
    ("loop_reduce_window_fusion_1", "pools"),
    ("input_scatter_fusion", "pools"),
    ("input_reduce_select_fusion_4", "reductions"),
    ("loop_multiply_fusion_2", "elementwise"),
])  # fmt: skip
def test_a_kernel_has_a_kind(kernel, kind):
    """Names that the profiler reported on an H200."""
    assert by_kind([(kernel, 1.0)]) == {kind: 1.0}


def test_kinds_are_added_up_the_longest_first():
    events = [("loop_add_fusion", 1.0), ("cutlass", 5.0), ("loop_fusion", 2.0)]
    assert list(by_kind(events).items()) == [("convolutions", 5.0), ("elementwise", 3.0)]


def record(job="inference", gpus=("A GPU",), **seconds):
    seconds = {name.replace("_", " "): times for name, times in seconds.items()}
    return {
        "date": "2026-01-01",
        "device": {"cpu": "A CPU", "cores": 16, "flags": [], "gpus": list(gpus), "system": "Linux"},
        "versions": {"python": "3.12", "tensorflow": None, "keras": "3", "jax": "1", "torch": None},
        "settings": {"pjrt": f"resnet50 {job} bfloat16", "job": job, "precision": "bfloat16", "batch": 8, "rounds": 2},
        "figures": {
            "seconds": seconds,
            "images_per_second": {name: 8 / times[0] for name, times in seconds.items()},
            "share_of_matmul": 0.25,
            "matmul_flops_per_second": 8e14,
            "copy_bytes_per_second": 4e12,
            "spent": {"convolutions": 0.9, "pools": 0.08, "copies": 0.02},
        },
    }


def test_the_table_of_gpus():
    raced = record(rawcnn=[1, 1], keras_function_jax=[2, 2], torch_eager=[4, 4], torch_compile=[3, 3])
    partly = record("training", rawcnn=[1, 1], torch_eager=[4, 4])  # PyTorch's torch.compile was not measured
    on_cpu = record(gpus=(), rawcnn=[1, 1], keras_function_jax=[9, 9])
    text = tables.gpu_table([raced, partly, on_cpu])
    rows = [line for line in text.splitlines() if line.startswith("| resnet50")]
    assert rows == [
        "| resnet50, inference | bfloat16 | 8 | 8 | 4 | 2 | 3 | **2.00** (2.00–2.00) | **3.00** (3.00–3.00) | 25% "
        "| convolutions 90%, pools 8% |",
        "| resnet50, training step | bfloat16 | 8 | 8 | – | 2 | – | – | – | 25% | convolutions 90%, pools 8% |",
    ]
    assert "Measured on A GPU, 16 cores of A CPU; Python 3.12, JAX 1, Keras 3." in text
    assert "a square matmul in bfloat16 800 TFLOP/s; a copy 4.0 TB/s" in text


def race(case, gpus=("A GPU",), precision="bfloat16", **seconds):
    """A record of a kernel, as `benchmarks.stablehlo.run` writes it."""
    made = record("kernel", gpus)
    made["figures"]["seconds"] = {f"rawcnn {form}": times for form, times in seconds.items()}
    made["settings"] |= {"pjrt": f"{case} {precision}", "precision": precision, "batch": 64, "case": asdict(case)}
    return made | {"commit": "c", "command": "here"}


def test_what_won_on_a_gpu_is_taken_there(tmp_path, monkeypatch):
    """The winner is written for all jobs of the kernel; defaults and races on a CPU are not written."""
    table = tmp_path / "algorithms.json"
    shutil.copy(selection.SHIPPED, table)
    monkeypatch.setattr(selection, "SHIPPED", table)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stem, groups = KernelCase("conv2d", 8, 227, 3, 96, 11, 4), KernelCase("conv2d", 8, 27, 96, 256, 5, groups=2)
    pool, norm = KernelCase("max_pool", 8, 112, 64, window=3, stride=2), KernelCase("batch_norm", 8, 56, 256)
    records = [
        race(stem, nn=[2, 2], space_to_depth=[1, 1]),
        race(groups, nn=[3, 3], split=[1, 1], dense=[2, 2]),
        race(pool, nn=[1, 1], lines=[2, 2]),
        race(norm, gpus=(), fused=[2, 2], explicit=[1, 1]),
    ]
    assert forms.add(records, table) == forms.add(records, table) == 2  # writing twice changes nothing
    selection.forget()
    reported = json.loads(table.read_text())
    assert set(reported["forms"]) - set(json.loads((SHIPPED).read_text())["forms"]) == {
        f"gpu {job} bfloat16" for job in JOBS
    }
    assert [about["device"]["gpus"] for about in reported["measured"]][-1] == ["A GPU"]

    def form(job, shape, pixels, known):
        return selection.measured(job, tf.bfloat16, shape, pixels, known)

    with compiled_by("gpu"):
        assert form("conv2d", "11×11×3×96 /4", 64 * 57 * 57, JOBS["conv2d"]) == "space_to_depth"
        assert form("conv2d filter gradient", "11×11×3×96 /4", 64 * 57 * 57, JOBS[FILTER_GRADIENT]) == "space_to_depth"
        assert form("conv2d input gradient", "11×11×3×96 /4", 64 * 57 * 57, JOBS[INPUT_GRADIENT]) == "nn"
        for job, known in GROUPED_JOBS.items():
            assert form(job, "5×5×48×256 /1 in 2 groups", 64 * 27 * 27, known) == "split"
    assert form("conv2d filter gradient", "11×11×3×96 /4", 64 * 57 * 57, JOBS[FILTER_GRADIENT]) == "nn"
    monkeypatch.undo()
    selection.forget()


def test_results_that_are_none(tmp_path, capsys):
    (tmp_path / "pjrt.jsonl").write_text("{")
    assert forms.main(["--folder", str(tmp_path), "--table", str(tmp_path / "table.json")]) == 2
    assert "line 1, is not JSON" in capsys.readouterr().err and not (tmp_path / "table.json").exists()
