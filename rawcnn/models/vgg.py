"""VGG. Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1.

Parameters: A and A-LRN 132,863,336, B 133,047,848, C 133,638,952, D 138,357,544, E 143,667,240 (the paper's table 2
prints 133, 133, 134, 138 and 144 million). Filters start by Glorot & Bengio's rule, which the paper's authors found to
work without warm-starting the deep columns from A (§3.1).
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from rawcnn.nn.initializers import glorot_uniform
from rawcnn.nn.layers import conv, dense, dropout, lrn, max_pool, relu
from rawcnn.nn.trace import Trace

# Table 1, a row a column of the paper: five stages with a max-pool after each. A number is a 3×3 convolution's width
# (conv3-64), (1, width) a 1×1 convolution, LRN the normalisation of column A-LRN.
LRN = "lrn"
A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
A_LRN = ((64, LRN), (128,), (256, 256), (512, 512), (512, 512))
B = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
C = ((64, 64), (128, 128), (256, 256, (1, 256)), (512, 512, (1, 512)), (512, 512, (1, 512)))
D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
E = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))


def vgg(net: Trace, images: tf.Tensor, *, column, classes: int = 1000) -> tf.Tensor:
    """Images [B,224,224,3] → logits [B,classes]."""
    x = images
    for stage, entries in enumerate(column, start=1):
        for number, entry in enumerate(entries, start=1):
            if entry == LRN:
                x = lrn(net, f"norm{stage}", x)
                continue
            size, width = entry if isinstance(entry, tuple) else (3, entry)
            x = relu(net, conv(net, f"conv{stage}_{number}", x, width, size, initial=glorot_uniform))
        x = max_pool(net, f"pool{stage}", x, 2, 2, padding="VALID")  # 224 → 112 → 56 → 28 → 14 → 7
    x = relu(net, dense(net, "fc6", x, 4096, initial=glorot_uniform))  # [B,25088] → [B,4096]
    x = dropout(net, "drop6", x, 0.5)
    x = relu(net, dense(net, "fc7", x, 4096, initial=glorot_uniform))  # [B,4096]
    x = dropout(net, "drop7", x, 0.5)
    return dense(net, "fc8", x, classes, initial=glorot_uniform)


vgg_a, vgg_a_lrn, vgg_b, vgg_c, vgg16, vgg19 = (partial(vgg, column=column) for column in (A, A_LRN, B, C, D, E))
