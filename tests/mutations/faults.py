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
        "activations[source] + gradient if source in activations else gradient",
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
        "training step: weight decay of biases, too",
        "rawcnn/training/step.py",
        "[path for path in trained if decays(path) or recipe.decay_all]",
        "[path for path in trained]",
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
        "return round(self.counted / self.unit, decimals) == self.number",
        "return round(self.counted / self.unit) == round(self.number)",
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

FAULTS = [*KNOWN, *KERNELS, *NETWORKS, *TRAINING, *DATA, *USES]
