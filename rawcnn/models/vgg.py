"""VGG. Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1.

    column               A, A-LRN            B            C            D            E
    parameters        132,863,336  133,047,848  133,638,952  138,357,544  143,667,240
    paper, table 2    133 million  133 million  134 million  138 million  144 million

Deviation: filters are initialized by Glorot & Bengio's rule. The authors initialized the deep columns from a trained A,
and found after submission that this rule makes that unnecessary (§3.1).
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from rawcnn.nn.initializers import glorot_uniform
from rawcnn.nn.layers import conv, dense, dropout, lrn, max_pool, relu
from rawcnn.nn.trace import Trace

# Table 1. Each row is a column of the paper: five stages, with a max-pool after each. A number is the width of a 3×3
# convolution (conv3-64), (1, width) a 1×1 convolution, and LRN the response normalization of column A-LRN.
LRN = "lrn"
A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
A_LRN = ((64, LRN), (128,), (256, 256), (512, 512), (512, 512))
B = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
C = ((64, 64), (128, 128), (256, 256, (1, 256)), (512, 512, (1, 512)), (512, 512, (1, 512)))
D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
E = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))


def vgg(net: Trace, images: tf.Tensor, *, column, classes: int = 1000) -> tf.Tensor:
    """Table 1, one `column`: images [B,224,224,3] → logits [B,classes]."""
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
