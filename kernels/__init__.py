"""What a tensor operation is: pure functions on tensors, with no variables and no state.

Each file has five faces in one order: the equation, a NumPy reference, the tensor forms, the gradient by hand and the
cost. Activations are [B,H,W,C], filters [kh,kw,Cin/groups,Cout].
"""

from kernels.activation import (
    deconvnet_relu,
    deconvnet_relu_gradient,
    guided_relu,
    guided_relu_gradient,
    log_softmax,
    log_softmax_gradient,
    relu,
    relu_cost,
    relu_gradient,
    softmax,
    softmax_cost,
    softmax_gradient,
)
from kernels.combine import (
    concatenate,
    concatenate_cost,
    concatenate_gradient,
    residual_sum,
    residual_sum_cost,
    residual_sum_gradient,
    zero_padded_shortcut,
    zero_padded_shortcut_cost,
    zero_padded_shortcut_gradient,
)
from kernels.convolution import (
    conv2d,
    conv2d_cost,
    conv2d_filter_gradient,
    conv2d_input_gradient,
    conv2d_transpose,
)
from kernels.cost import Cost, elementwise_cost
from kernels.dropout import dropout, dropout_cost, dropout_gradient, dropout_mask
from kernels.linear import dense, dense_cost, dense_gradient
from kernels.loss import (
    cross_entropy,
    cross_entropy_cost,
    cross_entropy_gradient,
    weight_decay,
    weight_decay_cost,
    weight_decay_gradient,
)
from kernels.normalization import (
    batch_normalization,
    batch_normalization_cost,
    batch_normalization_gradient,
    batch_normalization_training,
    fold_batch_normalization,
    local_response_normalization,
    local_response_normalization_cost,
    local_response_normalization_input_gradient,
)
from kernels.pooling import (
    average_pool,
    average_pool_input_gradient,
    global_average_pool,
    global_average_pool_cost,
    global_average_pool_input_gradient,
    max_pool,
    max_pool_input_gradient,
    max_pool_switches,
    max_unpool,
    pool_cost,
)
from kernels.warp import affine_resample, crop_resize_transforms, rotation_translation

__all__ = [name for name in dir() if not name.startswith("_")]
