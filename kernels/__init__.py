"""What a tensor operation is: functions of tensors without variables.

The files of this folder are a textbook. Each operation has five sections in one order: the equation, a NumPy reference,
the tensor form, the gradient by hand and the cost. (`cost`, `geometry` and `precision` are no operations.)
`kernels.forms` holds faster forms of the same operations, `kernels.dispatch` checks arguments and chooses a form.
Activations are [B,H,W,C], filters [kh,kw,C/groups,Cout].

The same tensors give the same result up to rounding, whichever form runs. What chooses the form is outside of the
arguments: the compiler (`kernels.forms.compiler`), the devices that share a batch (`kernels.dispatch.replica`) and a
table of measurements, which a user can replace (`kernels.dispatch.selection`).
"""

import onednn
from kernels.activation import (
    deconvnet_relu_gradient,
    guided_relu_gradient,
    redirected_relu_gradient,
    relu,
    relu_cost,
    relu_gradient,
    relu_gradient_reference,
    relu_reference,
)
from kernels.channel_gate import (
    scale_channels,
    scale_channels_cost,
    scale_channels_gradient,
    scale_channels_reference,
    sigmoid,
    sigmoid_cost,
    sigmoid_gradient,
    sigmoid_reference,
)
from kernels.combine import (
    concatenate,
    concatenate_cost,
    concatenate_gradient,
    concatenate_reference,
    residual_sum,
    residual_sum_cost,
    residual_sum_gradient,
    residual_sum_reference,
    scaled_residual_sum,
    scaled_residual_sum_cost,
    scaled_residual_sum_gradient,
    scaled_residual_sum_reference,
)
from kernels.convolution import conv2d_bias_gradient, conv2d_cost, conv2d_reference
from kernels.cost import Cost, elementwise_cost
from kernels.discretization import (
    encode_levels,
    encode_levels_cost,
    encode_levels_reference,
    join_codes,
    join_codes_gradient,
    level_of,
)
from kernels.dispatch import arguments
from kernels.dispatch.activation import deconvnet_relu, guided_relu, redirected_relu
from kernels.dispatch.convolution import conv2d, conv2d_filter_gradient, conv2d_input_gradient, conv2d_transpose
from kernels.dispatch.dropout import drop_path, drop_path_gradient, dropout, dropout_gradient, dropout_mask
from kernels.dispatch.linear import dense
from kernels.dispatch.normalization import (
    batch_normalization,
    batch_normalization_gradient,
    batch_normalization_training,
    biased_variance,
)
from kernels.dispatch.pooling import (
    average_pool,
    average_pool_input_gradient,
    global_average_pool,
    max_pool,
    max_pool_input_gradient,
    max_pool_switches,
    max_unpool,
)
from kernels.dispatch.response import local_response_normalization
from kernels.dispatch.spectral import fourier_image
from kernels.dispatch.warp import affine_resample
from kernels.dropout import drop_path_cost, drop_path_reference, dropout_cost, dropout_reference
from kernels.forms.winograd import winograd_multiplications, winograd_tile_reference
from kernels.linear import dense_cost, dense_gradient, dense_reference
from kernels.loss import (
    cross_entropy,
    cross_entropy_cost,
    cross_entropy_gradient,
    cross_entropy_reference,
    log_softmax,
    log_softmax_gradient,
    log_softmax_reference,
    smoothed_targets,
    softmax,
    softmax_cost,
    softmax_gradient,
    softmax_reference,
    weight_decay,
    weight_decay_cost,
    weight_decay_gradient,
    weight_decay_reference,
)
from kernels.normalization import (
    batch_normalization_cost,
    batch_normalization_inference_gradient,
    batch_normalization_reference,
    batch_normalization_training_reference,
    fold_batch_normalization,
)
from kernels.pooling import (
    average_pool_reference,
    global_average_pool_cost,
    global_average_pool_input_gradient,
    global_average_pool_reference,
    max_pool_reference,
    max_pool_switches_reference,
    max_unpool_reference,
    pool_cost,
)
from kernels.random import philox_reference, random_words_reference
from kernels.response import (
    local_response_normalization_cost,
    local_response_normalization_input_gradient,
    local_response_normalization_reference,
)
from kernels.shortcut import (
    zero_padded_shortcut,
    zero_padded_shortcut_cost,
    zero_padded_shortcut_gradient,
    zero_padded_shortcut_reference,
)
from kernels.smoothing import (
    blur_matrix,
    gaussian_blur,
    gaussian_blur_cost,
    gaussian_blur_gradient,
    gaussian_blur_reference,
    total_variation,
    total_variation_cost,
    total_variation_gradient,
    total_variation_reference,
)
from kernels.spectral import (
    fourier_frequencies,
    fourier_image_cost,
    fourier_image_gradient,
    fourier_image_reference,
    high_frequency_energy,
    high_frequency_energy_cost,
    high_frequency_energy_gradient,
    high_frequency_energy_reference,
    spectrum_shape,
)
from kernels.transposed import conv2d_transpose_cost, conv2d_transpose_reference
from kernels.warp import (
    affine_resample_cost,
    affine_resample_image_gradient,
    affine_resample_reference,
    crop_resize_transforms,
    rotation_translation,
)

__all__ = sorted(name for name, value in globals().items() if getattr(value, "__module__", "").startswith("kernels."))

# References are NumPy's own and take what NumPy takes. All others take arrays and NumPy's numbers, too, but no bools.
for _name in __all__:
    if _name != "Cost" and not _name.endswith("_reference"):
        globals()[_name] = arguments.checked(globals()[_name])
