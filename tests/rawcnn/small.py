"""A network and a data set small enough to train in a test."""

from __future__ import annotations

import tensorflow as tf

from rawcnn.data import DataSet, Split
from rawcnn.nn.layers import batch_norm, conv, dense, dropout, global_average_pool, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace


def model(net: Trace, images: tf.Tensor, *, classes: int = 10, rate: float = 0.2, auxiliary: bool = False) -> tf.Tensor:
    """[B,8,8,3] → [B,classes], with batch norm, bias, pool, dropout and optionally an auxiliary head."""
    x = conv(net, "conv1", images, 8, 3, bias=False)
    x = max_pool(net, "pool1", relu(net, batch_norm(net, "conv1/bn", x, epsilon=1e-5)), 2, 2, padding="VALID")
    if auxiliary and net.train:
        net.auxiliary.append(dense(net, "head", x, classes))
    x = global_average_pool(net, "pool2", relu(net, conv(net, "conv2", x, 16, 3)))  # [B,16]
    return dense(net, "classifier", dropout(net, "drop", x, rate), classes)


def network(seed: int = 0, size: int = 8, precision: str = "float32", **options) -> Network:
    """Return the network of the model above."""

    def configured(net, images):
        return model(net, images, **options)

    classes = int(options.get("classes", 10))
    return Network("small", configured, size=size, classes=classes, seed=seed, precision=precision)


def part(data: DataSet, train: int, test: int) -> DataSet:
    """Return a data set with the first images of each split."""
    splits = {}
    for name, count in (("train", train), ("test", test)):
        images, labels = data.splits[name].images, data.splits[name].labels
        assert images is not None  # held in memory
        splits[name] = Split(labels[:count], images[:count])
    return DataSet(f"a part of {data.name}", data.labels, data.size, splits, data.white)


def data(images, labels, classes: int) -> DataSet:
    """Return a data set of these uint8 images [N,H,W,3], with equal splits for training and test."""
    split = Split(labels, tf.constant(images))
    names = tuple(f"class {i}" for i in range(classes))
    return DataSet("a few", names, tuple(images.shape[1:3]), {"train": split, "test": split})
