"""The table of GPUs, and the kinds of kernels that time is counted for."""

import pytest

from benchmarks import tables
from benchmarks.pjrt.spent import by_kind


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
    """Names as the profiler gave them on an H200."""
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
    partly = record("training", rawcnn=[1, 1], torch_eager=[4, 4])  # of PyTorch the better way was not measured
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
