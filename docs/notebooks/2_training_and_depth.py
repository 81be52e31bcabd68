# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Training and depth
#
# Training changes a network's variables step by step, so that its loss becomes smaller. This lesson takes one step
# apart, trains a small residual network on handwritten digits, and then asks the question that led to ResNet: why do
# deeper networks without shortcuts become worse?
#
# The lesson takes about two minutes on two cores and downloads nothing.

# %% tags=["hide-input"]
# In Colab: set this to the name of a wheel of rawcnn that you uploaded, or to git+https://… of a copy of the
# repository. `pip wheel --no-deps .` in the repository makes the wheel. Elsewhere, rawcnn is already installed.
RAWCNN = "rawcnn-0.1.0-py3-none-any.whl"  # @param {type:"string"}

import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("rawcnn") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", RAWCNN], check=True)
SMALL = os.environ.get("RAWCNN_NOTEBOOKS") == "small"  # the tests run the lessons with small settings

# %% tags=["remove-stderr"]
import rawcnn  # before TensorFlow, so that it can turn on fast CPU kernels

# isort: split
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.ticker import PercentFormatter

from rawcnn.evaluation.accuracy import evaluate
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training

tf.get_logger().setLevel("ERROR")  # no advice about functions that are traced again
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})
EPOCHS = 1 if SMALL else 12  # of the first network
DEPTHS = (20,) if SMALL else (20, 56)
DEPTH_EPOCHS = 1 if SMALL else 8  # of each of the networks that are compared

# %% [markdown]
# ## The data
#
# scikit-learn ships 1,797 handwritten digits of 8×8 pixels. They are small, so that training takes seconds.

# %%
digits = rawcnn.data.load("digits")
digits

# %% [markdown]
# ## One step, taken apart
#
# A training step has four parts:
#
# 1. forward pass: images → logits;
# 2. loss: the cross-entropy −log p of the true class, averaged over the batch;
# 3. backward pass: the gradient of the loss to each variable, by the chain rule, from the last operation to the
#    first;
# 4. update: each variable takes a small step against its gradient.
#
# `rawcnn.explain.backpropagate` does the first three with the gradients that each kernel writes out by hand, without
# TensorFlow's automatic differentiation. Its result shows the norm of each gradient:

# %%
images, labels = digits.arrays("train")  # [1442,8,8,3] in [0,1]; [1442]
images, labels = images[:64], labels[:64]
network = rawcnn.create("cifar_resnet20", classes=10, size=8, seed=0)
back = rawcnn.explain.backpropagate(network, images, labels, train=True, seed=0)
back

# %% [markdown]
# Ten classes that are equally probable would have the loss log 10 = 2.30. This network with random weights is worse:
# it is wrong, and sometimes sure of it.
#
# What does the loss do if all variables move against the gradient, by a rate times the gradient? The next cell tries
# several rates on the same batch. It changes a copy of the variables, because `network.trace` is a pure function of
# them.

# %%
import kernels


def loss_after(rate):
    variables = dict(network.variables)
    for path, gradient in back.parameters.items():
        variables[path] = network.variables[path] - rate * gradient
    logits = network.trace(variables, images, train=True, seed=0).logits
    return float(tf.reduce_mean(kernels.cross_entropy(logits, labels)))


rates = np.concatenate([[0], np.logspace(-4, 0, 8 if SMALL else 28)])
losses = [loss_after(rate) for rate in rates]
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(rates[1:], losses[1:], ".-")
axes.axhline(losses[0], color="gray", linewidth=1, linestyle=":")
axes.text(rates[1], losses[0], "before the step", fontsize=8, color="gray", va="bottom")
axes.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch after one step", ylim=(0, 2 * losses[0]))
plt.show()
best = rates[int(np.argmin(losses))]
print(f"loss before {losses[0]:.3f}, after the best step {min(losses):.3f}, at rate {best:.3g}")

# %% [markdown]
# For small rates the loss falls in proportion to the rate, as the gradient says. The gradient is only the slope at
# the start: beyond a certain rate the step leaves the region where that slope holds, and the loss rises again. This
# is why the learning rate is the first number to choose.
#
# ## Training a residual network
#
# A recipe holds everything that a paper prints about its training: batch size, learning rate and schedule, momentum,
# weight decay, label smoothing and augmentation.

# %%
recipe = replace(RECIPES["digits"], epochs=EPOCHS)
run = Training(network, recipe, seed=0)
run.fit(digits)
print(f"{recipe.optimizer}, momentum {recipe.momentum}, rate up to {recipe.rate}, weight decay {recipe.weight_decay}")

# %%
epochs = [row["epoch"] for row in run.history]
figure, panels = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for panel, quantity in zip(panels, ("loss", "accuracy"), strict=False):
    for split in ("train", "test"):
        values = [row[f"{split}_{quantity}"] for row in run.history]
        panel.plot(epochs, values, ".-", label=f"{split} images")
    panel.set(xlabel="epoch", title=quantity)
panels[1].yaxis.set_major_formatter(PercentFormatter(1))
panels[1].legend(frameon=False)
panels[2].plot(epochs, [row["rate"] for row in run.history], ".-")
panels[2].set(xlabel="epoch", title="learning rate at the epoch's end")
plt.show()

# %% [markdown]
# Two things may surprise:
#
# - The test loss of the first epochs is worse than the training loss, sometimes by far. Evaluation uses moving
#   averages of the batch-norm statistics, and these lag behind weights that change quickly. When the learning rate
#   falls, they catch up.
# - At the end, the training loss is larger than the test loss. The recipe shifts the training images at random and
#   smooths their labels, so that a loss of zero is out of reach. The test images are as they are.
#
# Which digits does the trained network confuse?

# %%
evaluation = evaluate(network, digits)
matrix = np.zeros((10, 10), int)
np.add.at(matrix, (evaluation.labels, evaluation.predictions), 1)
figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
axes.imshow(np.sqrt(matrix), cmap="Blues")
for row, column in np.argwhere(matrix):
    color = "white" if matrix[row, column] > 15 else "black"
    axes.text(column, row, matrix[row, column], ha="center", va="center", color=color, fontsize=8)
axes.set_xticks(range(10))
axes.set_yticks(range(10))
axes.set(
    xlabel="prediction", ylabel="true class", title=f"{evaluation.correct} of {evaluation.count} test digits right"
)
plt.show()

# %%
wrong = np.flatnonzero(evaluation.predictions != evaluation.labels)[:8]
if len(wrong):
    figure, panels = plt.subplots(1, len(wrong), figsize=(1.3 * len(wrong), 1.8), squeeze=False, layout="constrained")
    for panel, index, image in zip(panels[0], wrong, digits.take("test", wrong), strict=True):
        panel.imshow(image)
        panel.set_title(f"{evaluation.labels[index]}, not {evaluation.predictions[index]}", fontsize=9)
        panel.set_axis_off()
    plt.show()

# %% [markdown]
# Most of these digits are hard for people, too.
#
# ## Depth
#
# He et al. trained plain networks (a stack of convolutions) and residual networks (the same stack with shortcuts) of
# 20 and 56 layers on CIFAR-10. The deeper plain network had the larger *training* error. So the cause is not
# overfitting, which lowers the training error. Here is the same experiment on digits:

# %%
histories = {}
for kind in ("plain", "resnet"):
    for layers in DEPTHS:
        name = f"cifar_{kind}{layers}"
        deep = rawcnn.create(name, classes=10, size=8, seed=0)
        training = Training(deep, replace(RECIPES["digits"], epochs=DEPTH_EPOCHS), seed=0)
        training.fit(digits)
        histories[name] = training.history
        print(f"{name:<16} training error {1 - training.history[-1]['train_accuracy']:.1%}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for panel, kind, title in zip(panels, ("plain", "resnet"), ("plain networks", "residual networks"), strict=True):
    for layers in DEPTHS:
        history = histories[f"cifar_{kind}{layers}"]
        errors = [1 - row["train_accuracy"] for row in history]
        panel.plot([row["epoch"] for row in history], errors, ".-", label=f"{layers} layers")
    panel.set(xlabel="epoch", title=title)
    panel.legend(frameon=False)
panels[0].yaxis.set_major_formatter(PercentFormatter(1))
panels[0].set_ylabel("training error")
plt.show()

# %% [markdown]
# The plain network of 56 layers learns far more slowly than that of 20. The residual networks end close to
# each other. [Depth](../depth.md) has the same comparison on CIFAR-10, with longer training.
#
# ## Why: the gradients
#
# The backward pass multiplies one matrix per layer. If each multiplication enlarges the gradient by 20 %, then 56
# layers enlarge it by 1.2⁵⁶ = 27,000. This plot shows the gradient of the loss to each layer's output, before any
# training:

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
ratios = {}
for kind, line in (("plain", "--"), ("resnet", "-")):
    for layers, color in zip(DEPTHS, ("#2a6f97", "#c1440e"), strict=False):
        untrained = rawcnn.create(f"cifar_{kind}{layers}", classes=10, size=8, seed=0)
        back = rawcnn.explain.backpropagate(untrained, images, labels, train=True, seed=0)
        outputs = [x.name for x in untrained.training_operations if x.kind == "relu"]
        norms = [float(np.linalg.norm(back.activations[name])) for name in outputs]
        ratios[kind, layers] = norms[0] / norms[-1]
        axes.plot(range(1, len(norms) + 1), norms, line, color=color, label=f"{kind}, {layers} layers")
axes.set(yscale="log", xlabel="ReLU, from the image to the classifier", ylabel="norm of the gradient")
axes.legend(frameon=False)
plt.show()
for (kind, layers), ratio in ratios.items():
    print(f"{kind:<6} {layers} layers: the first gradient is {ratio:,.0f} times as large as the last")

# %% [markdown]
# In the plain networks the gradient is multiplied by about the same factor in each layer: a straight line on this
# logarithmic axis. Batch norm keeps the *activations* in range, but not the gradients: with 56 layers, those of the
# first layers are thousands of times as large as those of the last. One learning rate cannot suit both.
#
# In a residual network, y = F(x) + x. The backward pass of the sum hands the gradient to F *and*, unchanged, to x. A
# path of shortcuts leads from the loss to the first block, and no layer multiplies on it. Behind the first blocks the
# line is nearly flat.
#
# ## The identity, tried out
#
# A deeper network can do what a shallower one does, if the additional blocks are the identity. For a residual block
# that is easy: if the last batch norm's scale is 0, then F(x) = 0 and the block returns relu(x) = x. (x is the output
# of a ReLU, so it is not negative.)

# %%
block, before = "conv2_2", "conv2_1"
variables = dict(network.variables)
variables[f"{block}/bn2/scale"] = tf.zeros_like(network.variables[f"{block}/bn2/scale"])
variables[f"{block}/bn2/offset"] = tf.zeros_like(network.variables[f"{block}/bn2/offset"])
forward = network.trace(variables, images)
difference = np.abs(forward.activations[f"{block}/relu"] - forward.activations[f"{before}/relu"]).max()
print(f"largest difference between the block's output and its input: {difference}")
assert difference == 0

# %% [markdown]
# A plain block would need filters that copy each channel, with 1 at the center and 0 elsewhere, and batch norms that
# undo themselves. Such weights exist, but training does not find them.
#
# ## Questions
#
# 1. The loss at the start is larger than log 10. What does that say about the predictions?
#    *They are confident without a reason: some true classes have less than a tenth of the probability.*
# 2. Why is the training error, not the test error, the right one to compare for depth?
#    *A larger test error alone could be overfitting. A larger training error shows that the optimization is harder.*
# 3. What would the plot of gradients look like if each layer multiplied by 0.8 instead of 1.2?
#    *It would fall toward the image: vanishing gradients, the first layers would hardly learn.*
# 4. Which number of the recipe could help a plain network with 56 layers?
# *A smaller learning rate, so that the steps of the first layers are not too large; but then the last ones are slow.*
