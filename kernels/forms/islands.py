"""Islands of XLA: kernels that XLA compiles as one function within any graph, because it fuses their elementwise steps.

XLA compiles a function again for every new shape, so an unknown batch is processed image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from kernels.response import local_response_normalization, local_response_normalization_input_gradient
from kernels.warp import affine_resample, affine_resample_image_gradient, affine_resample_transform_gradient

compiled_response = tf.function(local_response_normalization, jit_compile=True, autograph=False)
compiled_response_gradient = tf.function(local_response_normalization_input_gradient, jit_compile=True, autograph=False)
compiled_resample = tf.function(affine_resample, jit_compile=True, autograph=False)
compiled_resample_image_gradient = tf.function(affine_resample_image_gradient, jit_compile=True, autograph=False)
compiled_resample_transform_gradient = tf.function(
    affine_resample_transform_gradient, jit_compile=True, autograph=False
)


def image_by_image(function: Callable, tensors: Sequence[tf.Tensor], *settings: object) -> tf.Tensor:
    """`function(*tensors, *settings)` of tensors [B,H,W,C] → [B,H,W,C], one image at a time."""
    result = tf.TensorSpec(tensors[0].shape[1:], tensors[0].dtype)
    return tf.map_fn(
        lambda image: function(*(tensor[None] for tensor in image), *settings)[0],
        list(tensors),
        fn_output_signature=result,
    )
