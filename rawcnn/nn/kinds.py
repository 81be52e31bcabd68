"""The names of the kinds of operations, as papers and textbooks write them."""

NAMES = {
    "preprocessing": "preprocessing",
    "conv": "convolution",
    "dense": "fully connected layer",
    "batch_norm": "batch normalization",
    "lrn": "local response normalization",
    "relu": "ReLU",
    "max_pool": "max-pooling",
    "average_pool": "average pooling",
    "global_average_pool": "global average pooling",
    "dropout": "dropout",
    "drop_path": "drop-path",
    "pad": "padding",
    "discretize": "discretization",
    "concatenate": "concatenation",
    "residual_sum": "residual sum",
    "sigmoid": "sigmoid",
    "scale_channels": "channel scaling",
    "zero_padded_shortcut": "zero-padded shortcut",
    "cross_entropy": "softmax and cross-entropy",
}
