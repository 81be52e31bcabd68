"""Faults that a change could bring in, each with the tests that should catch it.

A fault replaces a text that occurs once in its file. `python -m tests.mutations` tries them; tests/test_mutations.py
checks that each still fits the code. Equivalent changes, which compute the same, are no faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What is wrong, for the report.
        file: The file, relative to the root of the project.
        text: What is replaced. It occurs once in the file.
        instead: The faulty text.
        tests: What pytest gets: tests by their ids, which also run if they are slow or deeper, and options.
    """

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Put the fault into the project in the folder `root`."""
        path = root / self.file
        source = path.read_text(encoding="utf-8")
        assert source.count(self.text) == 1, f"{self.name}: the text occurs {source.count(self.text)} times"
        path.write_text(source.replace(self.text, self.instead), encoding="utf-8")


def fingerprint(*names: str) -> tuple[str, ...]:
    """Return the tests of the fingerprints of these models."""
    path = "tests/rawcnn/models/test_fingerprints.py::test_operations_are_those_of_the_fingerprint"
    return tuple(f"{path}[{name}]" for name in names)


# What survived before there were tests for it: each once in a copy of the project, found by hand ---------------------

KNOWN = [
    Fault(
        "inception_v2: modules 4a and 4b exchanged",
        "rawcnn/models/inception_v2.py",
        '("3a", "3b", "3c", "4a", "4b", "4c"',
        '("3a", "3b", "3c", "4b", "4a", "4c"',
        fingerprint("inception_v2"),
    ),
    Fault(
        "googlenet: no ReLU in the units of the paper's form",
        "rawcnn/models/googlenet.py",
        "return relu(net, conv(net, name, x, channels, size, **settings))",
        "return conv(net, name, x, channels, size, **settings)",
        fingerprint("googlenet"),
    ),
    Fault(
        "senet: the stem's pool is padded on all sides",
        "rawcnn/models/senet.py",
        'around = ROUNDED_UP if version == "v1" else ONE_AROUND',
        "around = ONE_AROUND",
        fingerprint("se_resnext50"),
    ),
    Fault(
        "senet: the stem's pool rounds odd maps down, as SAME",
        "rawcnn/models/senet.py",
        "ROUNDED_UP = ((0, 1), (0, 1))",
        'ROUNDED_UP = "SAME"',
        ("tests/rawcnn/models/test_seeded_logits.py::test_logits_are_the_library_s[se_resnext50]",),
    ),
    Fault(
        "nasnet: batch-norm momentum .997 instead of .9997",
        "rawcnn/models/nasnet.py",
        "epsilon=1e-3, momentum=0.9997)",
        "epsilon=1e-3, momentum=0.997)",
        fingerprint("nasnet_mobile-auxiliary=True"),
    ),
    Fault(
        "trainer: the learning rate is one epoch ahead",
        "rawcnn/training/trainer.py",
        "self.epoch + index / batches.steps, self.plateau.drops",
        "self.epoch + 1 + index / batches.steps, self.plateau.drops",
        ("tests/rawcnn/training/test_recipes.py", "-k", "rate_by_hand"),
    ),
    Fault(
        "recipes: resnet2015_cifar never flips",
        "rawcnn/training/recipes.py",
        "    schedule=Step(at=(32 / 64, 48 / 64)),  # ÷10 at 32,000 and 48,000 steps\n"
        "    augmentation=Augmentation(flip=True, pad=4),",
        "    schedule=Step(at=(32 / 64, 48 / 64)),  # ÷10 at 32,000 and 48,000 steps\n"
        "    augmentation=Augmentation(pad=4),",
        ("tests/rawcnn/training/test_recipes.py", "-k", "printed_values"),
    ),
    Fault(
        "training step: labels of auxiliary heads are not smoothed",
        "rawcnn/training/step.py",
        "smoothing = recipe.label_smoothing if recipe.auxiliary_smoothing else 0.0",
        "smoothing = 0.0",
        ("tests/rawcnn/training/test_trainer.py::test_auxiliary_loss_has_smoothed_labels",),
    ),
    Fault(
        "pgd: random starts up to 2ε from the image",
        "rawcnn/attacks/gradient.py",
        "images + per_image(epsilon, images) * point",
        "images + 2 * per_image(epsilon, images) * point",
        ("tests/rawcnn/attacks/test_attacks.py", "-m", "", "-k", "ball"),
    ),
    Fault(
        "weights: two tensors of one shape exchanged in torchvision's Inception V3",
        "rawcnn/weights/torch_inception_names.py",
        '    "double_7x1_1": "branch7x7dbl_2",\n    "double_1x7_1": "branch7x7dbl_3",\n'
        '    "double_7x1_2": "branch7x7dbl_4",',
        '    "double_7x1_1": "branch7x7dbl_4",\n    "double_1x7_1": "branch7x7dbl_3",\n'
        '    "double_7x1_2": "branch7x7dbl_2",',
        ("tests/rawcnn/weights/test_published_weights.py::test_pytorch_names[inception_v3]",),
    ),
    Fault(
        "schedules: OnPlateau never lowers the rate",
        "rawcnn/optim/schedules.py",
        "return self.factor ** min(drops, self.most)",
        "return self.factor**0",
        ("tests/rawcnn/training/test_recipes.py", "-k", "rate_by_hand or plateau"),
    ),
    Fault(
        "augmentation: no noise of colors",
        "rawcnn/data/augmentation.py",
        "    if a.lighting:\n",
        "    if a.lighting and a.pad:\n",
        ("tests/rawcnn/data/test_augmentation.py",),
    ),
    Fault(
        "resnext: the stem's ε is 1e-3",
        "rawcnn/models/resnext.py",
        "padding=THREE_AROUND, epsilon=1e-5)",
        "padding=THREE_AROUND)",
        fingerprint("resnext50"),
    ),
    Fault(
        "inception_v4: two branches concatenated in the other order",
        "rawcnn/models/inception_v4.py",
        "[a, b1, b2, c1, c2, d]",
        "[a, b2, b1, c1, c2, d]",
        fingerprint("inception_v4"),
    ),
]

# Kernels, their forms and their selection ----------------------------------------------------------------------------

KERNELS = [
    Fault(
        "batch norm: the unbiased variance in training",
        "kernels/normalization.py",
        "return mean, sums(tf.square(wide(x) - mean)) / count(x)",
        "return mean, sums(tf.square(wide(x) - mean)) / (count(x) - 1)",
        ("tests/kernels/test_normalization.py",),
    ),
    Fault(
        "batch norm: the gradient without the mean's part",
        "kernels/normalization.py",
        "dx = scale * inverse * (g - mean_doffset - normalized * mean_dscale)",
        "dx = scale * inverse * (g - normalized * mean_dscale)",
        ("tests/kernels/test_normalization.py",),
    ),
    Fault(
        "batch norm: folding forgets the convolution's bias",
        "kernels/normalization.py",
        "shift = -mean if bias is None else tf.cast(bias, mean.dtype) - mean",
        "shift = -mean",
        ("tests/kernels/test_normalization.py", "tests/rawcnn/nn/test_folding.py"),
    ),
    Fault(
        "pooling: of equal values the last is the maximum",
        "kernels/pooling.py",
        "stays = (largest >= view) | tf.math.is_nan(largest)",
        "stays = (largest > view) | tf.math.is_nan(largest)",
        ("tests/kernels/test_pooling.py",),
    ),
    Fault(
        "pooling: max-pools pad with zeros",
        "kernels/pooling.py",
        'return tf.nn.max_pool2d(pad_image(x, padding, -inf), window, stride, "VALID")',
        'return tf.nn.max_pool2d(pad_image(x, padding), window, stride, "VALID")',
        ("tests/kernels/test_pooling.py", "tests/kernels/test_not_finite.py"),
    ),
    Fault(
        "pooling: the average's gradient counts the padding",
        "kernels/pooling.py",
        "pixels = None if count_padding else pixels_inside(image, window, stride, pads)",
        "pixels = None",
        ("tests/kernels/test_pooling.py",),
    ),
    Fault(
        "loss: label smoothing over K − 1 classes",
        "kernels/loss.py",
        "rest = label_smoothing / classes",
        "rest = label_smoothing / (classes - 1)",
        ("tests/kernels/test_loss.py",),
    ),
    Fault(
        "loss: log_softmax without its shift",
        "kernels/loss.py",
        "    z -= tf.stop_gradient(tf.reduce_max(z, axis=-1, keepdims=True))\n",
        "",
        ("tests/kernels/test_loss.py",),
    ),
    Fault(
        "response normalization: one neighbor too few",
        "kernels/response.py",
        "for j in range(2 * radius + 1)]",
        "for j in range(2 * radius)]",
        ("tests/kernels/test_response.py",),
    ),
    Fault(
        "dropout: the values that are kept are not scaled",
        "kernels/dropout.py",
        "tf.constant(1 / (1 - rate), dtype), 0)",
        "tf.constant(1.0, dtype), 0)",
        ("tests/kernels/test_dropout.py",),
    ),
    Fault(
        "winograd: rows and columns of tiles exchanged",
        "kernels/forms/winograd.py",
        "((r * step + i) * width + c * step + j)",
        "((c * step + i) * width + r * step + j)",
        ("tests/kernels/forms/test_winograd.py",),
    ),
    Fault(
        "warp: height and width exchanged in crops",
        "kernels/warp.py",
        "down, across, zero = height / out_height, width / out_width, tf.zeros_like(top)",
        "down, across, zero = width / out_width, height / out_height, tf.zeros_like(top)",
        ("tests/kernels/test_warp.py",),
    ),
    Fault(
        "guided backpropagation: passes where the input was negative",
        "kernels/activation.py",
        "return tf.where(x > 0, tf.nn.relu(gradient), 0)",
        "return tf.nn.relu(gradient)",
        ("tests/kernels/test_activation.py",),
    ),
    Fault(
        "selection: the form of the farthest measured size",
        "kernels/dispatch/selection.py",
        "nearest = min(sizes, key=lambda size: abs(log(size / pixels)) if pixels else size)",
        "nearest = max(sizes, key=lambda size: abs(log(size / pixels)) if pixels else size)",
        ("tests/kernels/dispatch/test_selection.py",),
    ),
]

# Networks: layers, receptive fields, folding, preprocessing, models ---------------------------------------------------

NETWORKS = [
    Fault(
        "layers: old and new moments exchanged in the moving average",
        "rawcnn/nn/layers.py",
        "average = momentum * old + (1 - momentum) * new",
        "average = (1 - momentum) * old + momentum * new",
        ("tests/rawcnn/nn/test_network.py",),
    ),
    Fault(
        "receptive fields: dilation is ignored",
        "rawcnn/nn/receptive_field.py",
        "self.size + (taps - 1) * dilation * self.stride",
        "self.size + (taps - 1) * self.stride",
        ("tests/rawcnn/nn/test_receptive_field.py",),
    ),
    Fault(
        "preprocessing: caffe's channels stay RGB",
        "rawcnn/nn/preprocessing.py",
        "return tf.reverse(images, [-1]) * 255 - tf.constant(CAFFE_MEAN, images.dtype)",
        "return images * 255 - tf.constant(CAFFE_MEAN, images.dtype)",
        ("tests/rawcnn/nn/test_network.py::test_preprocessing",),
    ),
    Fault(
        "preprocessing: the gradient of caffe's channels stays BGR",
        "rawcnn/nn/preprocessing.py",
        "tf.reverse(255 * g, [-1])",
        "255 * g",
        ("tests/rawcnn/nn/test_backpropagation.py::test_each_preprocessing_has_a_gradient_by_hand",),
    ),
    Fault(
        "backpropagation: the last branch's gradient replaces the sum",
        "rawcnn/nn/backpropagation.py",
        "activations[name] + gradient if name in activations else gradient",
        "gradient",
        ("tests/rawcnn/nn/test_backpropagation.py", "-k", "differences"),
    ),
    Fault(
        "backpropagation: batch norm in training by the unbiased variance",
        "rawcnn/nn/backpropagation.py",
        "kernels.biased_variance(x, op.moments[1])",
        "op.moments[1]",
        ("tests/rawcnn/nn/test_backpropagation.py", "-k", "differences"),
    ),
    Fault(
        "backpropagation: auxiliary heads without their weight",
        "rawcnn/nn/backpropagation.py",
        "weight / tf.cast(tf.shape(logits)[0], network.wide)",
        "1 / tf.cast(tf.shape(logits)[0], network.wide)",
        ("tests/rawcnn/nn/test_backpropagation.py", "-k", "differences"),
    ),
    Fault(
        "folding: every batch norm has ε = 1e-3",
        "rawcnn/nn/folding.py",
        'epsilon: Any = norm.settings["epsilon"]',
        "epsilon: Any = 1e-3",
        ("tests/rawcnn/nn/test_folding.py::test_folding_is_exact_in_float64[resnext50]",),
    ),
    Fault(
        "googlenet: torchvision's pools are padded on all sides",
        "rawcnn/models/googlenet.py",
        "ROUNDED_UP: Pads = ((0, 1), (0, 1))",
        "ROUNDED_UP: Pads = ((1, 1), (1, 1))",
        fingerprint("googlenet-torchvision=True"),
    ),
    Fault(
        "inception_resnet_v2: the last block has a ReLU",
        "rawcnn/models/inception_v4.py",
        'x = block8(net, "block8_10", x, scale=1.0)',
        'x = relu(net, block8(net, "block8_10", x, scale=1.0))',
        fingerprint("inception_resnet_v2"),
    ),
]

# Optimization and training -------------------------------------------------------------------------------------------

TRAINING = [
    Fault(
        "optimizers: nesterov is plain momentum",
        "rawcnn/optim/optimizers.py",
        "return variable + (momentum * velocity - step), velocity",
        "return variable + velocity, velocity",
        ("tests/rawcnn/optim/test_optimizers.py",),
    ),
    Fault(
        "optimizers: rmsprop's ε is outside the root",
        "rawcnn/optim/optimizers.py",
        "gradient * tf.math.rsqrt(mean_square + epsilon)",
        "gradient / (tf.sqrt(mean_square) + epsilon)",
        ("tests/rawcnn/optim/test_optimizers.py",),
    ),
    Fault(
        "optimizers: clipping lengthens short gradients",
        "rawcnn/optim/optimizers.py",
        "limit / tf.maximum(norm, limit)",
        "limit / norm",
        ("tests/rawcnn/optim/test_optimizers.py",),
    ),
    Fault(
        "optimizers: the average ignores the number of the step",
        "rawcnn/optim/optimizers.py",
        "rate = tf.minimum(rate, (1 + step) / (10 + step))",
        "rate = tf.minimum(rate, (10 + step) / (10 + step))",
        ("tests/rawcnn/optim/test_optimizers.py",),
    ),
    Fault(
        "schedules: a step's drop is one step late",
        "rawcnn/optim/schedules.py",
        "sum(epoch >= fraction * epochs for fraction in self.at)",
        "sum(epoch > fraction * epochs for fraction in self.at)",
        ("tests/rawcnn/training/test_recipes.py", "-k", "rate_by_hand"),
    ),
    Fault(
        "weight decay: biases decay, too",
        "rawcnn/nn/weight_decay.py",
        'path.endswith(("/filters", "/weights"))',
        'path.endswith(("/filters", "/weights", "/bias"))',
        ("tests/rawcnn/training/test_trainer.py", "-k", "decay"),
    ),
    Fault(
        "training: by hand, auxiliary heads have no gradient",
        "rawcnn/training/step.py",
        "loss_and_gradient(network, operations, labels, recipe)",
        "loss_and_gradient(network, operations, labels, None)",
        ("tests/rawcnn/training/test_gradients.py::test_a_step_has_the_values_of_the_tape",),
    ),
    Fault(
        "training: plateaus follow the test images",
        "rawcnn/training/validation.py",
        'return "validation" if "validation" in data.splits else "test"',
        'return "test"',
        ("tests/rawcnn/training/test_validation.py", "-k", "looked_at_once or follow_the_validation"),
    ),
    Fault(
        "training: each epoch repeats the seeds of the first",
        "rawcnn/training/batches.py",
        "tf.constant([self.seed, epoch * self.steps + index])",
        "tf.constant([self.seed, index])",
        ("tests/rawcnn/training/test_trainer.py::test_each_epoch_has_an_order_and_each_step_a_seed_of_its_own",),
    ),
    Fault(
        "training: the last of equally good epochs is the best",
        "rawcnn/training/run_state.py",
        "accuracy > self.progress.best.accuracy:",
        "accuracy >= self.progress.best.accuracy:",
        ("tests/rawcnn/training/test_validation.py",),
    ),
    Fault(
        "checkpoints: files are not forced to the disk",
        "rawcnn/training/checkpoints.py",
        "            for path in (*temporary.iterdir(), temporary):\n                _force(path)\n",
        "",
        ("tests/rawcnn/training/test_checkpoints.py", "-k", "on_the_disk"),
    ),
    Fault(
        "checkpoints: the digest of a note is not compared",
        "rawcnn/training/checkpoints.py",
        'if loaded["sha256"] != _digest(loaded["note"]):',
        'if "sha256" not in loaded:',
        ("tests/rawcnn/training/test_checkpoints.py", "-k", "note"),
    ),
    Fault(
        "recipes: VGG's jitter up to 480 pixels, as ResNet's",
        "rawcnn/training/recipes.py",
        "jitter=(256, 512), lighting=0.1)",
        "jitter=(256, 480), lighting=0.1)",
        ("tests/rawcnn/training/test_recipes.py", "-k", "printed_values"),
    ),
]

# Data and weights ----------------------------------------------------------------------------------------------------

DATA = [
    Fault(
        "augmentation: images are turned upside down instead of mirrored",
        "rawcnn/data/augmentation.py",
        "images[:, :, ::-1], images)",
        "images[:, ::-1], images)",
        ("tests/rawcnn/data/test_augmentation.py",),
    ),
    Fault(
        "augmentation: random crops never reach the last row and column",
        "rawcnn/data/augmentation.py",
        "* (below + 1, right + 1), tf.int32)",
        "* (below, right), tf.int32)",
        ("tests/rawcnn/data/test_augmentation.py",),
    ),
    Fault(
        "augmentation: the aspect of area crops is height over width",
        "rawcnn/data/augmentation.py",
        "tall = tf.minimum(tf.sqrt(part * (height * width) / ratio), height)\n"
        "    wide = tf.minimum(tall * ratio, width)",
        "tall = tf.minimum(tf.sqrt(part * (height * width) * ratio), height)\n"
        "    wide = tf.minimum(tall / ratio, width)",
        ("tests/rawcnn/data/test_augmentation.py",),
    ),
    Fault(
        "augmentation: contrast pulls toward black, brightness toward the mean",
        "rawcnn/data/augmentation.py",
        "tf.where(which == 0, tf.zeros_like(grey), tf.where(which == 1, mean, grey))",
        "tf.where(which == 1, tf.zeros_like(grey), tf.where(which == 0, mean, grey))",
        ("tests/rawcnn/data/test_augmentation.py",),
    ),
    Fault(
        "decoding: height and width exchanged when an image is scaled",
        "rawcnn/data/decode.py",
        "ImageOps.fit(rgb, size[::-1], Image.Resampling.BILINEAR)",
        "ImageOps.fit(rgb, size, Image.Resampling.BILINEAR)",
        ("tests/rawcnn/test_sizes.py::test_data_sets_are_scaled_to_a_size",),
    ),
    Fault(
        "decoding: orientations 6 and 8 exchanged",
        "rawcnn/data/pixels.py",
        "6: Turn.ROTATE_270,\n    7: Turn.TRANSVERSE,\n    8: Turn.ROTATE_90,",
        "6: Turn.ROTATE_90,\n    7: Turn.TRANSVERSE,\n    8: Turn.ROTATE_270,",
        ("tests/rawcnn/data/test_pixels.py", "-k", "orientation"),
    ),
    Fault(
        "folders: classes that are numbers are sorted as text",
        "rawcnn/data/folders.py",
        "return (lambda label: (int(label), label)) if numbers else str",
        "return str",
        ("tests/rawcnn/data/test_folders.py",),
    ),
    Fault(
        "records: a shard that lost its end is not noticed",
        "rawcnn/data/records.py",
        "    if present != expected:\n",
        "    if present > expected:\n",
        ("tests/rawcnn/data/test_records.py",),
    ),
    Fault(
        "weights: height and width of PyTorch's filters exchanged",
        "rawcnn/weights/torch_names.py",
        "return transposed(name, shape, (2, 3, 1, 0))  # OIHW → HWIO",
        "return transposed(name, shape, (3, 2, 1, 0))  # OIHW → HWIO",
        ("tests/rawcnn/weights/test_published_weights.py::test_pytorch_names[resnet18]",),
    ),
    Fault(
        "weights: Keras's ε of ResNets is not converted",
        "rawcnn/weights/keras_names.py",
        'if leaf == "variance" and family == "resnet":',
        'if leaf == "variance" and family == "resnet152":',
        ("tests/rawcnn/weights/test_published_weights.py::test_keras_names[resnet50]",),
    ),
    Fault(
        "weights: a tensor that no variable uses is not reported",
        "rawcnn/weights/fit.py",
        'return [f"unexpected {name} {self.tensors[name].shape}" for name in left]',
        "return []",
        ("tests/rawcnn/weights/test_weights.py",),
    ),
]

# Attacks, pictures, counts, evaluation, export, files ----------------------------------------------------------------

USES = [
    Fault(
        "pgd: images may leave [0,1]",
        "rawcnn/attacks/gradient.py",
        "        x = tf.clip_by_value(x, 0.0, 1.0)\n        return k + 1",
        "        return k + 1",
        ("tests/rawcnn/attacks/test_attacks.py::test_always_inside_the_ball_and_the_pixels",),
    ),
    Fault(
        "pgd: the ball is around the last step, not around the image",
        "rawcnn/attacks/gradient.py",
        "x = ball.project(x, images, per_image(epsilon, x))",
        "x = ball.project(x, x, per_image(epsilon, x))",
        ("tests/rawcnn/attacks/test_attacks.py::test_always_inside_the_ball_and_the_pixels",),
    ),
    Fault(
        "deepfool: the farthest boundary instead of the nearest",
        "rawcnn/attacks/nearest_boundary.py",
        "l = tf.argmin(distance, axis=1",
        "l = tf.argmax(distance, axis=1",
        ("tests/rawcnn/attacks/test_nearest_boundary.py",),
    ),
    Fault(
        "fooling images: the penalty pushes away from gray",
        "rawcnn/attacks/ascent.py",
        "GRAY + (1 - decay) * moved",
        "GRAY + (1 + decay) * moved",
        ("tests/rawcnn/attacks/test_evolution.py::test_one_step_of_ascent_by_hand",),
    ),
    Fault(
        "black box: the gradient is followed downhill",
        "rawcnn/attacks/black_box.py",
        "images + size * tf.sign(gradient_of(tape, total, images))",
        "images - size * tf.sign(gradient_of(tape, total, images))",
        ("tests/rawcnn/attacks/test_black_box.py::test_the_jacobian_step_of_a_linear_model",),
    ),
    Fault(
        "restarts: the last run that fools is kept, not the first",
        "rawcnn/attacks/runtime.py",
        "better = loss > best_loss",
        "better = loss >= best_loss",
        ("tests/rawcnn/attacks/test_attacks.py", "-m", "", "-k", "restart"),
    ),
    Fault(
        "integrated gradients: the left ends instead of the midpoints",
        "rawcnn/visualize/saliency.py",
        "np.float32((k + 0.5) / steps)",
        "np.float32(k / steps)",
        ("tests/rawcnn/visualize/test_saliency.py",),
    ),
    Fault(
        "smooth gradients: one range for the whole batch",
        "rawcnn/visualize/saliency.py",
        "np.ptp(images, axis=(1, 2, 3), keepdims=True)",
        "np.ptp(images, axis=(0, 1, 2, 3), keepdims=True)",
        ("tests/rawcnn/visualize/test_saliency.py",),
    ),
    Fault(
        "deconvolution: guided backpropagation has deconvnet's rectifier",
        "rawcnn/visualize/deconvolution.py",
        "BackwardRule(Trace, kernels.guided_relu)",
        "BackwardRule(Trace, kernels.deconvnet_relu)",
        ("tests/rawcnn/visualize/test_deconvolution.py",),
    ),
    Fault(
        "optimization: images do not turn about their center",
        "rawcnn/visualize/regularization.py",
        "offset = center + shift_before - np.einsum",
        "offset = center + shift_before + np.einsum",
        ("tests/rawcnn/visualize/test_optimization.py", "-k", "moves or jitter"),
    ),
    Fault(
        "profiling: parameters that are not trained count",
        "rawcnn/profiling/costs.py",
        '"parameters": sum(p.count for p in operation.parameters if p.trained),',
        '"parameters": sum(p.count for p in operation.parameters),',
        ("tests/rawcnn/profiling/test_costs.py",),
    ),
    Fault(
        "roofline: the larger of the two limits",
        "rawcnn/profiling/roofline.py",
        "return min(self.flops_per_second, intensity * self.bytes_per_second)",
        "return max(self.flops_per_second, intensity * self.bytes_per_second)",
        ("tests/rawcnn/profiling",),
    ),
    Fault(
        "papers: a difference has the wrong sign",
        "rawcnn/papers/comparison.py",
        "return self.number * self.unit / self.counted - 1",
        "return 1 - self.number * self.unit / self.counted",
        ("tests/rawcnn/papers/test_papers.py",),
    ),
    Fault(
        "papers: decimals of printed numbers are not compared",
        "rawcnn/papers/comparison.py",
        "if round(value, self.decimals) == self.number:",
        "if round(value) == round(self.number):",
        ("tests/rawcnn/papers/test_papers.py",),
    ),
    Fault(
        "evaluation: of equal logits the last class wins",
        "rawcnn/evaluation/accuracy.py",
        "later = tf.range(scores.shape[1]) >= tf.cast(labels, tf.int32)[:, None]",
        "later = tf.range(scores.shape[1]) <= tf.cast(labels, tf.int32)[:, None]",
        ("tests/rawcnn/evaluation/test_accuracy.py",),
    ),
    Fault(
        "evaluation: Wilson's interval of 90 %",
        "rawcnn/evaluation/accuracy.py",
        "z = 1.959964",
        "z = 1.644854",
        ("tests/rawcnn/evaluation/test_accuracy.py",),
    ),
    Fault(
        "multicrop: the mean of logarithms instead of the logarithm of the mean",
        "rawcnn/evaluation/multicrop.py",
        "return tf.reduce_logsumexp(logarithms, axis=0).numpy() - log(len(logarithms))",
        "return tf.reduce_mean(logarithms, axis=0).numpy()",
        ("tests/rawcnn/evaluation/test_multicrop.py",),
    ),
    Fault(
        "multicrop: ten crops without the lower right corner",
        "rawcnn/evaluation/multicrop.py",
        "places = (0, 0), (0, right), (below, 0), (below, right), (below // 2, right // 2)",
        "places = (0, 0), (0, right), (below, 0), (below, 0), (below // 2, right // 2)",
        ("tests/rawcnn/evaluation/test_multicrop.py", "-k", "ten_crops"),
    ),
    Fault(
        "class names: the classes of a data set are compared by number",
        "rawcnn/evaluation/class_names.py",
        "return data.with_classes(tuple(network.labels), [known.index(name) for name in found])",
        "return data.with_classes(tuple(network.labels), list(range(len(found))))",
        ("tests/rawcnn/evaluation/test_class_names.py",),
    ),
    Fault(
        "export: any folder is replaced",
        "rawcnn/export.py",
        'return isinstance(manifest, dict) and "rawcnn" in manifest',
        "return isinstance(manifest, dict)",
        ("tests/rawcnn/test_export.py", "-k", "only_an_earlier"),
    ),
    Fault(
        "export: the probabilities are logits",
        "rawcnn/export.py",
        '"probabilities": kernels.softmax(logits)}',
        '"probabilities": logits}',
        ("tests/rawcnn/test_export.py::test_saved_model_runs_without_rawcnn",),
    ),
    Fault(
        "files: a new file gets its name before its content is on the disk",
        "rawcnn/files/atomic.py",
        "    synchronize(temporary)\n    os.replace(temporary, path)\n",
        "    os.replace(temporary, path)\n",
        ("tests/rawcnn/files/test_atomic.py",),
    ),
    Fault(
        "files: two processes may hold one lock",
        "rawcnn/files/locks.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/rawcnn/files/test_locks.py", "tests/rawcnn/files/test_journal.py"),
    ),
    Fault(
        "journal: the checksum of a row is not compared",
        "rawcnn/files/journal.py",
        'if row.pop("row") != number or row.pop("crc32") != _checksum(row):',
        'if row.pop("row") != number or not row.pop("crc32"):',
        ("tests/rawcnn/files/test_journal.py",),
    ),
]

# Backpropagation by hand, and float64 -------------------------------------------------------------------------------

BACKWARD = "tests/rawcnn/nn/test_backpropagation.py"
DIFFERENCES = (f"{BACKWARD}::test_gradients_are_the_differences",)
GRADIENTS = [
    Fault(
        "backpropagation: dropout's mask is missing",
        "rawcnn/nn/backpropagation.py",
        'return [g if seed is None else kernels.dropout_gradient(g, op.settings["rate"], seed)], {}',
        "return [g], {}",
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: dilation is ignored",
        "rawcnn/nn/backpropagation.py",
        'slide = [op.settings[name] for name in ("stride", "padding", "dilation", "groups")]',
        'slide = [op.settings["stride"], op.settings["padding"], 1, op.settings["groups"]]',
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: batch norm in training by the moving averages",
        "rawcnn/nn/backpropagation.py",
        "if op.moments:  # training",
        "if not op.moments:  # training",
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: a scaled residual has the gradient of the sum",
        "rawcnn/nn/backpropagation.py",
        'if "scale" in op.settings:',
        'if "factor" in op.settings:',
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: average pools never count the padding",
        "rawcnn/nn/backpropagation.py",
        'for name in ("size", "stride", "padding", "count_padding")}',
        'for name in ("size", "stride", "padding")}',
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: the zeros of a shortcut are at its end",
        "rawcnn/nn/backpropagation.py",
        'op.inputs[0].shape, op.settings["stride"], op.settings["zeros"])',
        'op.inputs[0].shape, op.settings["stride"], "end")',
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: the gradient to the images without the preprocessing",
        "rawcnn/nn/backpropagation.py",
        "PREPROCESSING_GRADIENT[network.preprocessing](preprocessed_gradient)",
        "preprocessed_gradient",
        DIFFERENCES,
    ),
    Fault(
        "backpropagation: auxiliary heads always have smoothed labels",
        "rawcnn/nn/backpropagation.py",
        "recipe.label_smoothing if recipe.auxiliary_smoothing else 0.0",
        "recipe.label_smoothing",
        (f"{BACKWARD}::test_heads_without_smoothed_labels",),
    ),
    Fault(
        "weight decay: all variables decay",
        "rawcnn/nn/weight_decay.py",
        "recipe.weight_decay and (decays(path) or recipe.decay_all)",
        "recipe.weight_decay",
        DIFFERENCES,
    ),
    Fault(
        "float64: the mean over the batch is a float32",
        "rawcnn/nn/backpropagation.py",
        "tf.cast(weight / tf.cast(tf.shape(logits)[0], network.wide), logits.dtype)",
        "tf.cast(weight / tf.cast(tf.shape(logits)[0], tf.float32), logits.dtype)",
        (f"{BACKWARD}::test_heads_without_smoothed_labels",),
    ),
    Fault(
        "float64: images are rounded to float32",
        "rawcnn/nn/network.py",
        'return check_images(images, tf.float64 if getattr(images, "dtype", None) == tf.float64 else self.wide)',
        "return tf.cast(check_images(images, tf.float32), self.wide)",
        ("tests/rawcnn/nn/test_float64.py::test_logits_are_exact",),
    ),
    Fault(
        "float64: an update is rounded to float32",
        "rawcnn/training/step.py",
        "return State(new_variables, new_slots, new_averages)",
        "return State({p: tf.cast(tf.cast(v, tf.float32), v.dtype) for p, v in new_variables.items()}, "
        "new_slots, new_averages)",
        ("tests/rawcnn/nn/test_float64.py::test_training_updates_in_float64",),
    ),
]

# Explanations: what is embedded, what the page computes, exercises, displays ------------------------------------------

PAGE = "tests/rawcnn/report/test_explanation_page.py"
CLICKS = "tests/rawcnn/report/test_backward_page.py"
SCRIPTS = "tests/rawcnn/report/test_explanation_scripts.py"
DOCUMENT = "tests/rawcnn/explain/test_explanation.py"
EXPLANATIONS = [
    Fault(
        "selection: the windows of the last row are not complete",
        "rawcnn/explain/units.py",
        "return range(axis.pixels(positions[0], length)[0], axis.pixels(positions[-1], length)[1])",
        "return range(axis.pixels(positions[0], length)[0], axis.pixels(positions[-1], length)[1] - 1)",
        (f"{DOCUMENT}::test_what_the_windows_of_some_outputs_read",),
    ),
    Fault(
        "selection: a response normalization has its neighbors, but not theirs",
        "rawcnn/explain/units.py",
        'reach = 2 * op.settings["radius"]',
        'reach = op.settings["radius"]',
        (f"{DOCUMENT}::test_channels_that_each_kind_reads",),
    ),
    Fault(
        "selection: all zeros of a shortcut are in front",
        "rawcnn/explain/units.py",
        'return extra // 2 if op.settings["zeros"] == "both" else 0',
        'return extra if op.settings["zeros"] == "both" else 0',
        (f"{DOCUMENT}::test_channels_that_each_kind_reads",),
    ),
    Fault(
        "selection: the label's logit is not in the page",
        "rawcnn/explain/selection.py",
        "        chosen.add(recording.label)\n",
        "        pass\n",
        (f"{DOCUMENT}::test_a_dense_layer_has_its_ten_largest_outputs_and_the_label",),
    ),
    Fault(
        "selection: a grid at the edge reaches beyond the map",
        "rawcnn/explain/selection.py",
        "start = min(max(center - grid // 2, 0), length - grid)",
        "start = max(center - grid // 2, 0)",
        (f"{DOCUMENT}::test_a_grid_stays_on_the_map",),
    ),
    Fault(
        "paths: the largest product instead of the largest magnitude",
        "rawcnn/explain/paths.py",
        "a, b, c = np.unravel_index(np.argmax(np.abs(products)), products.shape)",
        "a, b, c = np.unravel_index(np.argmax(products), products.shape)",
        (f"{DOCUMENT}::test_a_path_goes_to_the_leading_term",),
    ),
    Fault(
        "paths: a maximum goes to the largest magnitude",
        "rawcnn/explain/paths.py",
        "rows, columns, channel, lambda values: values)",
        "rows, columns, channel, np.abs)",
        (f"{DOCUMENT}::test_a_path_goes_to_the_leading_term",),
    ),
    Fault(
        "paths: the residual's scale is ignored",
        "rawcnn/explain/paths.py",
        'factors = (1.0, float(op.settings.get("scale", 1.0)))',
        "factors = (1.0, 1.0)",
        (f"{DOCUMENT}::test_a_path_goes_to_the_leading_term",),
    ),
    Fault(
        "recording: an activation that is read twice has one part of its gradient",
        "rawcnn/explain/recording.py",
        'which = f"[{number}]" if op.input_names.count(activation) > 1 else ""',
        'which = ""',
        (f"{DOCUMENT}::test_an_activation_that_is_read_twice",),
    ),
    Fault(
        "recording: the loss is always that of the prediction",
        "rawcnn/explain/recording.py",
        "label = predicted if label is None else label",
        "label = predicted",
        (f"{DOCUMENT}::test_the_step_has_the_norm_that_clips",),
    ),
    Fault(
        "statistics: negative values count as zeros",
        "rawcnn/explain/statistics.py",
        '"zeros": np.mean(output == 0),',
        '"zeros": np.mean(output <= 0),',
        (f"{DOCUMENT}::test_statistics_of_a_small_network",),
    ),
    Fault(
        "explanation: the norm that clips is without weight decay",
        "rawcnn/explain/document.py",
        "    gradients = with_weight_decay(gradients, network.trained_variables, recipe)\n",
        "",
        (f"{DOCUMENT}::test_the_step_has_the_norm_that_clips",),
    ),
    Fault(
        "explanation: the first step has the largest rate",
        "rawcnn/explain/document.py",
        '"rate": learning_rate(recipe, 0),',
        '"rate": recipe.rate,',
        (f"{DOCUMENT}::test_the_step_has_the_norm_that_clips",),
    ),
    Fault(
        "windows.js: windows are padded at the wrong side",
        "rawcnn/report/explanation/windows.js",
        "const row = output.row * stride[0] + i * dilation[0] - pads[0][0];",
        "const row = output.row * stride[0] + i * dilation[0] - pads[0][1];",
        (f"{SCRIPTS}::test_geometry_and_paths",),
    ),
    Fault(
        "windows.js: every group reads the first channels",
        "rawcnn/report/explanation/windows.js",
        "return { first: group * count, count };",
        "return { first: 0, count };",
        (f"{CLICKS}::test_channels_of_groups",),
    ),
    Fault(
        "forward.js: batch norm's ε is outside the root",
        "rawcnn/report/explanation/forward.js",
        "const deviation = Math.sqrt(variance + epsilon);",
        "const deviation = Math.sqrt(variance) + epsilon;",
        (f"{CLICKS}::test_all_units_of_small_operations",),
    ),
    Fault(
        "windows.js: an average divides by the pixels inside, although padding counts",
        "rawcnn/report/explanation/windows.js",
        "(operation.settings.count_padding ? taps(operation, output) : tapsInside(operation, output));",
        "tapsInside(operation, output);",
        (f"{CLICKS}::test_all_units_of_small_operations",),
    ),
    Fault(
        "terms.js: of equal values the last is the winner",
        "rawcnn/report/explanation/terms.js",
        "const fromLargest = (terms) => [...terms].sort(",
        "const fromLargest = (terms) => [...terms].reverse().sort(",
        (f"{CLICKS}::test_ties_and_zeros",),
    ),
    Fault(
        "forward.js: the smoothed label lacks its share of ε",
        "rawcnn/report/explanation/forward.js",
        "target: (k === label ? 1 - smoothing : 0) + smoothing / classes,",
        "target: k === label ? 1 - smoothing : smoothing / classes,",
        (f"{PAGE}::test_a_small_network",),
    ),
    Fault(
        "terms.js: of equal terms the last is the largest",
        "rawcnn/report/explanation/terms.js",
        "Math.abs(term.value) > Math.abs(best.value);",
        "Math.abs(term.value) >= Math.abs(best.value);",
        (f"{SCRIPTS}::test_geometry_and_paths",),
    ),
    Fault(
        "input_gradients.js: ReLU passes the gradient at zero",
        "rawcnn/report/explanation/input_gradients.js",
        '{ "[x > 0]": Number(x > 0) }',
        '{ "[x > 0]": Number(x >= 0) }',
        (f"{CLICKS}::test_ties_and_zeros",),
    ),
    Fault(
        "input_gradients.js: all units of the winner's row get the gradient",
        "rawcnn/report/explanation/input_gradients.js",
        "return Number(winner.row === row && winner.column === column);",
        "return Number(winner.row === row);",
        (f"{CLICKS}::test_ties_and_zeros",),
    ),
    Fault(
        "input_gradients.js: response normalization without the factor 2",
        "rawcnn/report/explanation/input_gradients.js",
        '"−2αβ·x[c]": -2 * alpha * beta * x,',
        '"−2αβ·x[c]": -alpha * beta * x,',
        (f"{CLICKS}::test_a_response_normalization_with_large_sums",),
    ),
    Fault(
        "input_gradients.js: caffe's gradient has the channels of the pixels",
        "rawcnn/report/explanation/input_gradients.js",
        "const c = channels.indexOf(unit.channel);",
        "const c = unit.channel;",
        (f"{CLICKS}::test_pixels[caffe]",),
    ),
    Fault(
        "windows.js: readers of a pixel by the padding of the other side",
        "rawcnn/report/explanation/windows.js",
        "const start = index + pads[axis][0] - tap * dilation[axis];",
        "const start = index + pads[axis][1] - tap * dilation[axis];",
        (f"{SCRIPTS}::test_geometry_and_paths",),
    ),
    Fault(
        "parameter_gradients.js: γ's gradient by values that are not normalized",
        "rawcnn/report/explanation/parameter_gradients.js",
        "(unitValue(operation.inputs[0], output) - mean) / deviation",
        "unitValue(operation.inputs[0], output) - mean",
        (f"{CLICKS}::test_some_operations",),
    ),
    Fault(
        "parameter_gradients.js: a filter reads the channels of the first group",
        "rawcnn/report/explanation/parameter_gradients.js",
        "channel: first + c });",
        "channel: c });",
        (f"{CLICKS}::test_every_kind_of_operation",),
    ),
    Fault(
        "recipe_step.js: Nesterov's step is that of momentum",
        "rawcnn/report/explanation/recipe_step.js",
        "after: w + m * v - rate * g };",
        "after: w + v };",
        (f"{CLICKS}::test_the_step_is_that_of_training[nesterov]",),
    ),
    Fault(
        "recipe_step.js: clipping lengthens short gradients",
        "rawcnn/report/explanation/recipe_step.js",
        "(gradient * clip) / Math.max(norm, clip);",
        "(gradient * clip) / norm;",
        (f"{CLICKS}::test_the_step_is_that_of_training[short]",),
    ),
    Fault(
        "recipe_step.js: only filters and weights ever decay",
        "rawcnn/report/explanation/recipe_step.js",
        "page.recipe.decay_all || /",
        "/",
        (f"{CLICKS}::test_the_step_is_that_of_training[nesterov]",),
    ),
    Fault(
        "exercises: NaN is right",
        "rawcnn/explain/exercises/checking.py",
        "wrong = ~(np.abs(values - expected) <= limit)",
        "wrong = np.abs(values - expected) > limit",
        ("tests/rawcnn/explain/test_exercises.py::test_answers_that_are_no_arrays",),
    ),
    Fault(
        "exercises: a function may change the inputs",
        "rawcnn/explain/exercises/checking.py",
        "function(**copy.deepcopy(dict(inputs)))",
        "function(**dict(inputs))",
        ("tests/rawcnn/explain/test_exercises.py::test_answers_that_are_no_arrays",),
    ),
    Fault(
        "notebook: averages of batch norms count as parameters",
        "rawcnn/notebook/network.py",
        "sum(p.count for p in x.parameters if p.trained),",
        "sum(p.count for p in x.parameters),",
        ("tests/rawcnn/notebook/test_notebook.py::test_network_shows_its_operations",),
    ),
    Fault(
        "notebook: images that the attack did not fool come first",
        "rawcnn/notebook/attack_result.py",
        "np.argsort(~(result.success & ~result.already_wrong), kind",
        "np.argsort(result.success & ~result.already_wrong, kind",
        ("tests/rawcnn/notebook/test_notebook.py::test_attacks_show_first_what_they_fooled",),
    ),
]

# The microscope and the range test ------------------------------------------------------------------------------------

SEEN = "tests/rawcnn/training/test_microscope.py"
RANGE = "tests/rawcnn/training/test_rate_range.py"
MICROSCOPE = [
    Fault(
        "microscope: a unit is dead if one image does not excite it",
        "rawcnn/training/microscope.py",
        "silent = tf.reduce_all(tf.equal(outputs, 0), axis=0)",
        "silent = tf.reduce_any(tf.equal(outputs, 0), axis=0)",
        (f"{SEEN}::test_dead_units_and_channels",),
    ),
    Fault(
        "microscope: a channel is dead if one of its units is",
        "rawcnn/training/microscope.py",
        "everywhere = tf.reduce_all(silent, axis",
        "everywhere = tf.reduce_any(silent, axis",
        (f"{SEEN}::test_dead_units_and_channels",),
    ),
    Fault(
        "microscope: norms are squares",
        "rawcnn/training/microscope.py",
        "return tf.sqrt(tf.reduce_sum(tf.square(tf.cast(values, wide))))",
        "return tf.reduce_sum(tf.square(tf.cast(values, wide)))",
        (f"{SEEN}::test_values_of_a_network_against_loops",),
    ),
    Fault(
        "microscope: an update without weight decay",
        "rawcnn/training/microscope.py",
        "clipped, _ = clip_by_global_norm(decayed, recipe.clip)",
        "clipped, _ = clip_by_global_norm(gradients, recipe.clip)",
        (f"{SEEN}::test_values_of_a_network_against_loops",),
    ),
    Fault(
        "microscope: the ratio to the gradient instead of the weights",
        "rawcnn/training/microscope.py",
        '/ found["weight_norm"]',
        '/ found["weight_gradient_norm"]',
        (f"{SEEN}::test_values_of_a_network_against_loops",),
    ),
    Fault(
        "microscope: the network is measured as in inference",
        "rawcnn/training/microscope.py",
        "operations, _ = applied_operations(network, before.variables, images, train=True, seed=seed)",
        "operations, _ = applied_operations(network, before.variables, images)",
        (f"{SEEN}::test_values_of_a_network_against_loops",),
    ),
    Fault(
        "microscope: each row has the rate of the first step",
        "rawcnn/training/microscope.py",
        'history[-1]["rate"] if history else learning_rate(self.training.recipe, 0)',
        "learning_rate(self.training.recipe, 0)",
        (f"{SEEN}::test_a_row_has_the_rate_of_the_last_step",),
    ),
    Fault(
        "microscope: a device measures its part of the batch",
        "rawcnn/training/microscope.py",
        "count = min(training.recipe.batch, SAMPLE)",
        "count = min(training.recipe.batch, SAMPLE) // training.devices.count",
        (f"{SEEN}::test_two_devices_measure_what_one_measures",),
    ),
    Fault(
        "microscope: a resumed run keeps rows of epochs that it repeats",
        "rawcnn/training/microscope.py",
        "self.observations = found.until(training.epoch)",
        "self.observations = found",
        (f"{SEEN}::test_rows_of_epochs_that_are_repeated_are_replaced",),
    ),
    Fault(
        "microscope's page: the columns of ReLUs for those of convolutions",
        "rawcnn/report/microscope_page.py",
        "[output in weighted for output in seen.layers.outputs]",
        "[output not in weighted for output in seen.layers.outputs]",
        ("tests/rawcnn/report/test_microscope_page.py::test_lines_are_of_layers_with_weights",),
    ),
    Fault(
        "gradients through depth: the last layer over the first",
        "rawcnn/training/depth_gradients.py",
        "return first / last if last else",
        "return last / first if last else",
        (f"{SEEN}::test_first_over_last",),
    ),
    Fault(
        "range test: the average is biased to zero",
        "rawcnn/training/rate_range.py",
        "smoothed.append(average / (1 - SMOOTHING**number))",
        "smoothed.append(average)",
        (f"{RANGE}::test_smoothing_against_a_sum",),
    ),
    Fault(
        "range test: the network itself is trained",
        "rawcnn/training/rate_range.py",
        "{path: tf.Variable(v, trainable=v.trainable) for path, v in network.variables.items()}",
        "dict(network.variables)",
        (f"{RANGE}::test_rates_rise_exponentially_until_the_loss_diverges",),
    ),
    Fault(
        "range test: noise ends it",
        "rawcnn/training/rate_range.py",
        "max(RISE * (counted[0] - min(counted)), chance(losses))",
        "RISE * (counted[0] - min(counted))",
        (f"{RANGE}::test_noise_at_the_bottom_of_a_valley_ends_no_test",),
    ),
    Fault(
        "range test: the suggestion is the rate of the lowest loss",
        "rawcnn/training/rate_range.py",
        "return rates[best] / BELOW_LOWEST, reason",
        "return rates[best], reason",
        (f"{RANGE}::test_a_valley",),
    ),
    Fault(
        "range test: the suggestion is a step late",
        "rawcnn/training/rate_range.py",
        "best = counted.index(min(counted)) + WARM_UP - 1",
        "best = counted.index(min(counted)) + WARM_UP",
        (f"{RANGE}::test_a_loss_that_only_falls_says_that_a_larger_rate_may_suit",),
    ),
]

FAULTS = [*KNOWN, *KERNELS, *NETWORKS, *TRAINING, *DATA, *USES, *GRADIENTS, *EXPLANATIONS, *MICROSCOPE]
