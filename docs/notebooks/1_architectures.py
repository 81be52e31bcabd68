# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Architectures: from AlexNet to ResNet
#
# This lesson counts. Which layers of a network hold its parameters, which do its work, and what does each of the
# famous networks change about that? All numbers come from the code that runs: rawcnn traces a network with symbolic
# images and lists its operations. Nothing is trained here, and nothing is downloaded.
#
# The lesson takes about a minute on two cores.

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
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import kernels

plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## What a convolution computes
#
# A convolution slides a small filter over the image. At each place it multiplies the pixels under the filter with the
# filter's values, and adds the products:
#
#     y[p, q] = Σ x[p·s + i, q·s + j, c] · w[i, j, c]     over i, j and c; s is the stride
#
# The filter below is 1 on its right side and −1 on its left side. It answers where the image becomes brighter from
# left to right.

# %%
photograph = load_sample_image("china.jpg")[:, 100:527].astype(np.float32) / 255  # [427,427,3], RGB in [0,1]
edge = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)  # [3,3]
filters = np.stack([edge, edge.T])  # vertical and horizontal edges, [2,3,3]
filters = np.repeat(filters.transpose(1, 2, 0)[:, :, None, :], 3, axis=2) / 12  # [3,3,3,2]: 3 colors in, 2 maps out
edges = kernels.conv2d(photograph[None], filters, padding="VALID").numpy()[0]  # [425,425,2]

figure, panels = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
panels[0].imshow(photograph)
panels[0].set_title("photograph")
for panel, number, title in zip(panels[1:], (0, 1), ("vertical edges", "horizontal edges"), strict=True):
    panel.imshow(edges[:, :, number], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    panel.set_title(title)
for panel in panels:
    panel.set_axis_off()
plt.show()

# %% [markdown]
# Red is a positive answer, blue a negative one: one side of a pillar is red, the other blue, because the sign of the
# answer says in which direction the brightness rises. Horizontal edges answer in the other map.
#
# One value by hand. The window at row 200 and column 120 has 3×3 pixels of 3 colors, so the sum has 27 products:

# %%
window = photograph[200:203, 120:123]  # [3,3,3]
products = window * filters[:, :, :, 0]
print("sum of the 27 products:", products.sum())
print("conv2d at this place:  ", edges[200, 120, 0])
assert np.isclose(products.sum(), edges[200, 120, 0], atol=1e-5)

# %% [markdown]
# A network does not get such filters from a person. It begins with random ones and learns them. But the arithmetic is
# this one in each layer, so two numbers describe the cost of a layer:
#
# - **parameters**: the values of the filters, kh · kw · Cin · Cout, and a bias for each output channel;
# - **MACs** (multiply-accumulates): these weights are used once for each position of the output, so H' · W' times.

# %% [markdown]
# ## AlexNet (2012)
#
# AlexNet has five convolutions and three fully connected layers. `rawcnn.profile` lists what each operation costs for
# one image. A result that is the last line of a cell shows itself.

# %%
alexnet = rawcnn.profile("alexnet")
alexnet

# %% [markdown]
# conv1 has 11 · 11 · 3 · 96 weights and 96 biases: 34,944 parameters. It has 55×55 positions, so it takes
# 55 · 55 · 11 · 11 · 3 · 96 = 105,415,200 MACs. Check another row yourself: conv2 has two groups, so each of its
# filters reads only 48 of the 96 channels.
#
# Which layers hold the parameters, and which do the work?

# %%
layers = [row for row in alexnet.rows if row["kind"] in ("conv", "dense")]
names = [row["name"] for row in layers]
figure, panels = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for panel, key, title in zip(panels, ("parameters", "macs"), ("parameters, million", "MACs, million"), strict=True):
    values = [row[key] / 1e6 for row in layers]
    bars = panel.barh(names, values, color=["#2a6f97" if row["kind"] == "conv" else "#c1440e" for row in layers])
    panel.bar_label(bars, [f"{value / sum(values):.0%}" for value in values], padding=3, fontsize=8)
    panel.set_title(title)
    panel.set_xlim(0, 1.15 * max(values))
panels[0].invert_yaxis()
plt.show()

# %% [markdown]
# Blue are convolutions, red fully connected layers. The fully connected layers hold 96 % of the parameters, because
# each of their weights belongs to one pair of neurons. The convolutions do 92 % of the work, because each of their
# weights is used at every position.
#
# **The paper's numbers.** The next table compares what the paper prints with what the code counts. Each number that
# does not agree has a reason.

# %%
from rawcnn.papers import compare

compare("alexnet")

# %% [markdown]
# **Overlapping pooling.** AlexNet's max-pools have size 3 and stride 2, so neighboring windows share a row or column.
# In this row of numbers the 7 is the largest value of two windows:

# %%
row = np.array([1, 3, 7, 2, 5, 4, 0], np.float32).reshape(1, 1, 7, 1)  # [B,H,W,C]
overlapping = kernels.max_pool(row, (1, 3), (1, 2)).numpy().ravel()
apart = kernels.max_pool(row, (1, 2), (1, 2)).numpy().ravel()
print("size 3, stride 2:", overlapping)
print("size 2, stride 2:", apart)

# %% [markdown]
# ## VGG (2014): small kernels
#
# VGG uses nothing but 3×3 convolutions. The **receptive field** of a layer is the part of the image that one of its
# values depends on. Two 3×3 layers see 5×5 pixels, three see 7×7. So three of them can replace one 7×7 layer. With C
# channels in and out that takes 3 · (3²C²) = 27C² weights instead of 7²C² = 49C², and there are three non-linearities
# instead of one.

# %%
from rawcnn.report.kernel_claims import stack

print("filters    receptive field   weights")
for sizes in ((3,), (3, 3), (5,), (3, 3, 3), (7,)):
    counted = stack(sizes, channels=64)
    print(f"{'+'.join(f'{k}×{k}' for k in sizes):<12} {counted.receptive_field:>8} {counted.weights_of_squares:>14} C²")

# %% [markdown]
# The receptive field grows by the filter's size minus one, times the distance of neighboring positions in pixels. A
# pool of stride 2 doubles this distance, so later layers grow faster. This plot follows three networks from layer to
# layer:

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for model in ("alexnet", "vgg16", "resnet50"):
    profile = rawcnn.profile(model)
    maps = [row for row in profile.rows if row["kind"] in ("conv", "max_pool")]
    axes.plot([row["receptive_field"] for row in maps], ".-", label=f"{model}, images of {profile.size} px")
axes.axhline(224, color="gray", linewidth=1, linestyle=":")
axes.text(0, 230, "width of the image", fontsize=8, color="gray")
axes.set(xlabel="convolution or pool", ylabel="receptive field, px")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# A unit of ResNet-50's last layers could see more than the image. The lines become steeper after each stride. The
# three dips are the 1×1 convolutions of shortcuts, which read the input of a block and therefore see less.

# %% [markdown]
# ## GoogLeNet (2014): reduce before you look
#
# An inception module applies filters of different sizes to the same input and puts their outputs side by side. In the
# naive form each filter reads all channels, and the pool passes all of them on, so the depth grows from module to
# module. The clever form puts 1×1 convolutions in front: they mix the channels to fewer ones.

# %%
naive, reduced = rawcnn.profile("googlenet_naive"), rawcnn.profile("googlenet")
modules = [f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def work(profile, module):
    return sum(row["macs"] for row in profile.rows if row["name"].startswith(module + "/")) / 1e6


def depth(profile, module):
    return next(row["output_shape"][-1] for row in profile.rows if row["name"] == module)


places, labels = np.arange(len(modules)), [name.removeprefix("inception_") for name in modules]
figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for panel, measure, title in zip(panels, (work, depth), ("million MACs", "channels of the output"), strict=True):
    for shift, (name, profile) in enumerate({"naive": naive, "with 1×1 reductions": reduced}.items()):
        panel.bar(places + 0.4 * shift - 0.2, [measure(profile, module) for module in modules], 0.4, label=name)
    panel.set_xticks(places, labels)
    panel.set_title(title)
panels[0].legend(frameon=False)
plt.show()
print(f"MACs: {naive.totals['macs'] / reduced.totals['macs']:.1f} times as many without reductions")
print(f"parameters: {naive.totals['parameters'] / reduced.totals['parameters']:.1f} times as many")

# %% [markdown]
# The paper's own table, line by line. Where its numbers differ from the code, the last column explains why:

# %%
compare("googlenet")

# %% [markdown]
# ## ResNet (2015): add the input
#
# A residual block adds its input to its output: y = F(x) + x. If F is zero, the block is the identity. So a deeper
# network can always do what the shallower one does; lesson 2 looks at why plain networks do not find that solution.
#
# Here is a network with real variables. It has 20 layers for images of 32 pixels. Its operations show how each block
# ends with a `residual_sum` that reads two inputs:

# %%
network = rawcnn.create("cifar_resnet20", classes=10, seed=0)
network

# %% [markdown]
# A forward pass returns everything: the logits, and the output of each operation by its name. The filters are random,
# so the predicted class means nothing yet, however high its probability is. About half of the values behind a ReLU
# are zero, as one expects of random sums:

# %%
images = np.stack([photograph[k : k + 32, 100:132] for k in (0, 200)])  # two crops, [2,32,32,3]
forward = network.forward(images)
forward

# %% [markdown]
# ## All networks in one picture
#
# Each point is a network: how many MACs it takes for one image, and the top-1 error on ImageNet that its authors
# published. The area is the number of parameters. Protocols differ (one crop, ten crops, dense), so a difference of a
# point means little.

# %%
from rawcnn.papers.imagenet_errors import ERRORS

NAMED = {  # the networks with a name in the picture, and its distance from the point
    **dict.fromkeys(("alexnet", "vgg16", "vgg19"), 14),
    **dict.fromkeys(("googlenet", "plain34", "resnet34", "inception_v2", "resnet152", "nasnet_mobile"), 9),
    **dict.fromkeys(("inception_v3", "inception_v4", "nasnet_large"), -15),
}
shown = [row for row in ERRORS if not SMALL or row.model in ("alexnet", "vgg16", "googlenet", "resnet50")]
totals = {row.model: rawcnn.profile(row.model).totals for row in shown}
figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
for family in dict.fromkeys(row.family for row in shown):
    members = [row for row in shown if row.family == family]
    axes.scatter(
        [totals[row.model]["macs"] / 1e9 for row in members],
        [row.top1 for row in members],
        s=[4 * totals[row.model]["parameters"] / 1e6 for row in members],
        alpha=0.5,
        label=family,
    )
    for row in members:
        if row.model in NAMED:
            place = (totals[row.model]["macs"] / 1e9, row.top1)
            axes.annotate(row.model, place, (0, NAMED[row.model]), textcoords="offset points", fontsize=8, ha="center")
axes.set(xscale="log", xlabel="billion MACs per image", ylabel="published top-1 error, %")
axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
axes.set_xticks([], minor=True)
legend = axes.legend(frameon=False)
for handle in legend.legend_handles:
    handle.set_sizes([40])
plt.show()

# %% [markdown]
# VGG is far to the right and large: most of its parameters are in its first fully connected layer. GoogLeNet comes
# close to its error with a tenth of the work. Compare plain34 with resnet34, straight below it: the same layers, with
# and without shortcuts.
#
# ## Questions
#
# 1. AlexNet's fc6 reads a map of 6×6×256. How many parameters does it have?
#    *6 · 6 · 256 · 4096 + 4096 = 37,752,832, more than half of the network.*
# 2. Images of 256 instead of 224 pixels: how do the MACs and the parameters of VGG16's convolutions change?
#    *The MACs grow by (256/224)² = 1.31. The parameters stay the same.*
# 3. Why does the number of channels usually double where the map's sides halve?
#    *A quarter of the positions times four times the weights: the work per layer stays equal.*
# 4. Where in the plot of receptive fields would a network without any stride be after 16 layers of 3×3?
#    *At 2 · 16 + 1 = 33 pixels.*
