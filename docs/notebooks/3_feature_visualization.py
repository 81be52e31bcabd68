# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Feature visualization
#
# A trained network is a long list of numbers. They can all be read, but they do not say what they mean. This lesson
# looks at one small network in five ways: its filters, the images that a unit likes most, the deconvnet, saliency
# maps, and images that are optimized for a unit.
#
# The lesson takes about a minute on two cores and downloads nothing.

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

from rawcnn import visualize
from rawcnn.nn.layers import conv, dense, global_average_pool, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training
from rawcnn.visualize.regularization import COMPARED

tf.get_logger().setLevel("ERROR")  # no advice about functions that are traced again
plt.rcParams.update({"figure.dpi": 90})
EPOCHS = 1 if SMALL else 30
STEPS = 4 if SMALL else 128  # of gradient ascent
SIZE = 16 if SMALL else 48  # side of the optimized images


def show(pictures, titles=(), *, side=1.5, columns=10):
    """Draw pictures in rows, with a title above each."""
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    size = (side * columns, (side + 0.3 * bool(titles)) * rows)
    _, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for panel in panels.flat:
        panel.set_axis_off()
    for number, (panel, picture) in enumerate(zip(panels.flat, pictures, strict=False)):
        panel.imshow(picture)
        panel.set_title(titles[number] if titles else "", fontsize=9)
    plt.show()


# %% [markdown]
# ## A network of one's own
#
# A model in rawcnn is a function that reads like a table of layers. `net` hands out the variables and applies the
# operations. This one has three convolutions, with a max-pool behind the first and the second:


# %%
def model(net, images):
    x = relu(net, conv(net, "conv1", images, 16, 3))  # [B,8,8,16]
    x = max_pool(net, "pool1", x, 2, 2, padding="VALID")  # [B,4,4,16]
    x = relu(net, conv(net, "conv2", x, 32, 3))  # [B,4,4,32]
    x = max_pool(net, "pool2", x, 2, 2, padding="VALID")  # [B,2,2,32]
    x = relu(net, conv(net, "conv3", x, 32, 3))  # [B,2,2,32]
    return dense(net, "classifier", global_average_pool(net, "pool3", x), 10)  # [B,10]


digits = rawcnn.data.load("digits")
network = Network("three convolutions", model, size=8, classes=10, seed=0)
training = Training(network, replace(RECIPES["digits"], epochs=EPOCHS, rate=0.05), seed=0)
training.fit(digits)
print(f"test accuracy {training.history[-1]['test_accuracy']:.1%}")
network

# %% [markdown]
# ## Filters and maps
#
# The first filters read pixels, so they can be drawn as pictures. But the digits are gray, so the three colors of a
# filter have received the same gradients, and what remains of color in them is their random start. For gray images
# only the sum over the colors counts. It is drawn below them: red where brightness raises the answer, blue where it
# lowers it.

# %%
show([visualize.filter_grid(network, "conv1", columns=8)], side=5)
sums = network.variables["conv1/filters"].numpy().sum(axis=2)  # [3,3,16]
show([visualize.diverging(sums[:, :, k]) for k in range(16)], side=0.62, columns=8)

# %% [markdown]
# A later filter reads 16 or 32 channels, which have no color. Its *maps* can be drawn: where in this image does each
# channel respond? Every tile is stretched from black to white on its own.

# %%
images, labels = digits.arrays("test")
digit = images[0]
maps = [visualize.activation_grid(network, digit, layer, columns=8) for layer in ("conv1/relu", "conv2/relu")]
show([digit], [f"a {labels[0]}"])
show(maps, ["conv1/relu: 16 maps of 8×8", "conv2/relu: 32 maps of 4×4"], side=4.5)

# %% [markdown]
# Maps of conv1 still look like the digit: some channels respond to its left edges, others to its right edges or to
# the background. Maps of conv2 are coarser. A black tile is a channel that does not respond to this digit.
#
# ## Most activating inputs
#
# What does a unit look for? The simplest answer: the images, of all training images, that excite it most. First, the
# channels of conv3 that respond to the most different degrees:

# %%
layer = "conv3/relu"
train_images, train_labels = digits.arrays("train")
responses = network.forward(train_images).activations[layer].numpy().max(axis=(1, 2))  # [1442,32]
channels = [int(channel) for channel in np.argsort(-responses.std(axis=0))[: 3 if SMALL else 4]]
tops = visualize.top_inputs(network, digits, layer, channels, count=5)
tops

# %% [markdown]
# Each pair is what the unit sees, its receptive field, and the complete image with a red box around it. In this layer
# a unit sees almost the whole image. The number is the activation.
#
# Do the top images of a channel share their class? And how do the other images activate it?

# %%
for channel in channels:
    digit_names = [str(train_labels[found.index]) for found in tops[channel]]
    print(f"channel {channel}: its top images are {', '.join(digit_names)}")

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.boxplot([responses[train_labels == k, channels[0]] for k in range(10)], widths=0.6, flierprops={"markersize": 2})
axes.set_xticklabels(range(10))
axes.set(xlabel="class", ylabel="largest activation in the image", title=f"channel {channels[0]} of {layer}")
plt.show()

# %% [markdown]
# Top images show only a part of what a unit prefers. They are the tail of the distribution, they show what the images
# contain besides, and they cannot show anything that the data set does not contain.
#
# ## The deconvnet
#
# Zeiler and Fergus (2014) project an activation back to the pixels. They run the network backwards: unpooling puts
# each value where the maximum came from (the *switches*), ReLU keeps what is positive, and each convolution becomes
# its transpose. The result shows which parts of this image excited the unit.

# %%
channel = channels[0]
inputs = np.stack([found.image for found in tops[channel]])
positions = [found.position for found in tops[channel]]
projected = visualize.deconvolve(network, inputs, layer, channel, positions)
projected

# %% [markdown]
# Brighter than gray means: more light here raises the activation. The pictures follow the strokes of each digit,
# because the switches know where they were. Their colors again come from the random start of the filters; the next
# pictures show the sum over the colors, red above zero and blue below.
#
# The deconvnet differs from the gradient only in ReLU. The gradient passes where the *input* was positive, the
# deconvnet where the *signal that comes back* is positive, and guided backpropagation where both are:

# %%
pictures, titles = [], []
for method in ("gradient", "deconvnet", "guided"):
    found = visualize.deconvolve(network, inputs[:1], layer, channel, positions[:1], method=method)
    pictures.append(visualize.diverging(found.pictures[0].sum(axis=-1)))  # red raises the activation, blue lowers it
    titles.append(method)
show([inputs[0], *pictures], ["image", *titles], side=2)

# %% [markdown]
# Such pictures must be read with caution. The deconvnet and guided backpropagation partly restore the image, whatever
# the unit is (Nie et al. 2018).
#
# ## Saliency: which pixels decided?
#
# The gradient of a class's logit to the pixels says how a small change of each pixel changes the logit. It is noisy.
# Averaging it over noisy copies of the image smooths it. Integrated gradients add it up on the way from a black image
# to this one, so that the sum over all pixels is the change of the logit:

# %%
five = np.stack([images[np.flatnonzero(labels == k)[0]] for k in (0, 3, 5, 7)])
gradient = visualize.input_gradient(network, five)
smooth = visualize.smooth_gradient(network, five, samples=8 if SMALL else 50)
integrated = visualize.integrated_gradients(network, five)
rows = [list(five), *(visualize.saliency_pictures(found) for found in (gradient, smooth, integrated))]
names = ["image", "gradient", "SmoothGrad", "integrated"]
show([row[k] for row in rows for k in range(4)], [name for name in names for _ in range(4)], columns=4)
print("sum of the integrated map:", integrated.maps.sum(axis=(1, 2, 3)).round(2))
black = network(np.zeros((1, 8, 8, 3), np.float32)).numpy()[0]
print("change of the logit:      ", (integrated.logits - black[integrated.classes]).round(2))

# %% [markdown]
# In the last row, red pixels speak for the predicted class and blue ones against it. The two lines of numbers agree
# nearly: this is the property that gives integrated gradients their meaning.
#
# ## Visualization by optimization
#
# The more popular technique today needs no images at all. Begin with random noise and change the *image* so that the
# unit becomes more active. This is training with the roles exchanged: the weights are fixed, the pixels are the
# variables, and the objective is maximized. The convolutions take images of any size, so we optimize larger ones.
# They are kept gray, like the digits:

# %%
GRAY = visualize.Regularization(grey=True)
optimized = visualize.optimize(network, layer, channels, size=SIZE, steps=STEPS, regularization=GRAY)
optimized

# %%
frames = visualize.optimize(network, layer, channel, size=SIZE, steps=STEPS, regularization=GRAY, frames=5)
show(
    [picture[0] for _, picture in frames.frames],
    [f"step {step}" for step, _ in frames.frames],
    side=1.8,
)
figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
axes.plot(frames.history[:, 0])
axes.set(xlabel="step", ylabel="activation", title=f"channel {channel} of {layer}")
plt.show()

# %% [markdown]
# The image repeats what the channel looks for at every place of its map, because the objective is the mean over the
# map. The curve is rough, because each step shifts, turns and scales the image at random; that is one of the remedies
# below.
#
# ## Regularization
#
# Without regularization, the ascent finds noise of high frequency that activates the unit and looks like nothing. The
# lecture names two remedies: blur the image in each step, or penalize high frequencies. Two more are usual today:
# random transformations, and steps in Fourier space. All images below start from the same noise and take the same
# steps.

# %%
remedies = {name: replace(remedy, grey=True) for name, remedy in COMPARED.items()}
compared = visualize.compare(network, layer, channels[:1], size=SIZE, steps=STEPS, regularizations=remedies)
ratios = visualize.noise_ratios(compared)
titles = [f"{name}\n{found.values[0]:.2g}, noise {ratios[name]:.0%}" for name, found in compared.items()]
show([found.images[0] for found in compared.values()], titles, side=1.9, columns=3)

# %% [markdown]
# Below each name stand the activation and the energy of high frequencies, compared with no regularization. Read both
# numbers together. The unregularized image may have the highest activation, but its noise does not occur in images,
# so it does not show what the channel detects there.
#
# ## Directions
#
# A channel is one axis of the space of activations. Any other direction can be optimized, too, such as the lecture's
# example: one map should be excited twice as much as another.

# %%
first, second = channels[2], channels[0]
objective = visualize.objectives.weighted_units(network, layer, {first: 2, second: 1})
both = visualize.optimize(network, objective, size=SIZE, steps=STEPS, regularization=GRAY)
alone = visualize.optimize(network, layer, [first, second], size=SIZE, steps=STEPS, regularization=GRAY)
titles = [f"channel {first}", f"2 × channel {first} + channel {second}", f"channel {second}"]
show([alone.images[0], both.images[0], alone.images[1]], titles, side=2.4)
activations = network.activations(both.images, [layer])[layer].numpy().mean(axis=(0, 1, 2))
print(f"mean activation of channel {first}: {activations[first]:.2f}, of channel {second}: {activations[second]:.2f}")

# %% [markdown]
# The objective is the weighted sum times a cosine, which rewards the proportion 2 to 1 at each place of the map. How
# close an image comes to it depends on the pair: channels that look for similar things, or for opposite ones, cannot
# be mixed in every proportion. Try other pairs.
#
# ## Questions
#
# 1. Which of the five techniques needs a data set, which one image, and which none?
#    *Top inputs need a data set. Maps, deconvnet and saliency need an image. Filters and optimization need none.*
# 2. Why does the objective use a logit for a class, and not its probability?
#    *A probability also rises if the other logits fall, so the image need not show the class.*
# 3. Why does an optimized image have a larger activation than the best training image?
#    *It is not restricted to what occurs in the data.*
# 4. ResNets for CIFAR-10 have no max-pools. What does their deconvnet know about the image?
#    *Only the position and the size of the activation: there are no switches.*
