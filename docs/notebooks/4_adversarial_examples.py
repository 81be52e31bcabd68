# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Adversarial examples
#
# A network that classifies 98 % of the test images correctly seems to understand them. This lesson fools it: by
# changes that a person hardly sees, without access to its weights, by a sticker, by a small rotation, and by images
# that show nothing at all. At the end, a network learns to resist.
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

from rawcnn import attacks
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training

tf.get_logger().setLevel("ERROR")  # no advice about functions that are traced again
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})
EPOCHS = 2 if SMALL else 12
COUNT = 16 if SMALL else 200  # test images that are attacked
EPSILONS = [0, 0.1, 0.2] if SMALL else [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3]
digits = rawcnn.data.load("digits")


def train(adversary=None):
    network = rawcnn.create("cifar_resnet20", classes=10, size=8, seed=0)
    Training(network, replace(RECIPES["digits"], epochs=EPOCHS), seed=0, adversary=adversary).fit(digits)
    return network


network = train()
print(f"test accuracy {evaluate(network, digits).accuracy:.1%}")
images, labels = digits.arrays("test")  # [355,8,8,3] in [0,1]; [355]
images, labels = images[:COUNT], labels[:COUNT]

# %% [markdown]
# ## The fast gradient sign method
#
# Training follows the gradient of the loss J to the *weights*, to make the loss smaller. An attack follows the
# gradient to the *image*, to make it larger. The fast gradient sign method (FGSM) takes a single step:
#
#     x' = x + ε · sign(∇ₓ J(θ, x, y))
#
# Each pixel changes by exactly ε, up or down (and is then clipped to [0,1]). The same in four lines, with the
# gradient that the kernels write out by hand:

# %%
EPSILON = 0.15
back = rawcnn.explain.backpropagate(network, images, labels)
gradient = back.activations["images"].numpy()  # [B,8,8,3]
by_hand = np.clip(images + EPSILON * np.sign(gradient), 0, 1)
result = attacks.fgsm(network, images, labels, epsilon=EPSILON)
print("pixels that differ from rawcnn's FGSM by more than 1e-6:", np.mean(np.abs(by_hand - result.images) > 1e-6))
result

# %% [markdown]
# Left the image, in the middle the difference (enlarged), right the attacked image, each with the predicted class and
# its confidence. A person still reads the same digit, and the network another one. The changes have colors although
# the digits are gray: the network reads three channels, and the attack may use each of them.
#
# **Why the sign?** If every pixel may change by at most ε, then a linear function changes most when every pixel
# changes by ±ε in the direction of its gradient. The change is ε · Σ|∂J/∂x|: it adds up over the pixels, although
# each one is small. Random signs mostly cancel each other:

# %%
random = np.random.default_rng(0)
noisy = np.clip(images + EPSILON * random.choice([-1, 1], images.shape).astype(np.float32), 0, 1)
predictions = np.argmax(network(noisy), axis=1)
print(f"accuracy without a change      {np.mean(result.predictions_before == labels):.1%}")
print(f"accuracy with random signs     {np.mean(predictions == labels):.1%}")
print(f"accuracy with gradient's signs {np.mean(result.predictions == labels):.1%}")

# %% [markdown]
# ## The smallest ε
#
# How small can the change be? For each image, `smallest` finds the smallest ε by which the attack succeeds:

# %%
epsilons, found = attacks.smallest(network, images, labels)
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.hist(epsilons[np.isfinite(epsilons) & (epsilons > 0)], bins=30)
axes.set(xlabel="smallest ε that fools the network", ylabel="images")
plt.show()
print(f"median {np.median(epsilons):.3f}; FGSM fails for {np.sum(~np.isfinite(epsilons))} images with every ε")

# %% [markdown]
# ## Several steps: projected gradient descent
#
# FGSM trusts one gradient for the whole way. Projected gradient descent (PGD) takes small steps, computes the
# gradient again after each, and projects the image back so that no pixel leaves ±ε. Since it begins at a random
# point, several starts are possible.

# %%
curves = {
    "random signs": [
        np.mean(np.argmax(network(np.clip(images + e * np.sign(random.normal(size=images.shape)), 0, 1)), 1) == labels)
        for e in EPSILONS
    ]
}
for name, attack in {"FGSM": attacks.fgsm, "PGD, 10 steps": attacks.pgd}.items():
    curves[name] = [rate for _, rate in attacks.accuracy_against_epsilon(attack, network, images, labels, EPSILONS)]


def draw_accuracies(curves):
    _, axes = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for name, accuracies in curves.items():
        axes.plot(EPSILONS, accuracies, ".-", label=name)
    axes.set(xlabel="ε, the largest change of a pixel in [0,1]", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False)
    plt.show()


draw_accuracies(curves)

# %% [markdown]
# At every ε the stronger attack leaves less accuracy. So a network is not robust because *one* attack fails.
#
# ## DeepFool: to the nearest boundary
#
# DeepFool asks the opposite question: how far is the nearest image of another class? For a linear classifier f(x) =
# w·x + b the boundary is at the distance |f(x)| / ‖w‖. DeepFool steps there with the gradient in place of w, and
# repeats, because the network is not linear.

# %%
near = attacks.deepfool(network, images, labels)
near

# %%
lengths = near.columns()["l2"]
size = np.sqrt((images**2).sum(axis=(1, 2, 3)))
print(f"median change {np.median(lengths):.2f} (L2), or {np.median(lengths / size):.0%} of the image's own norm")
print(f"linearizations per image: {near.iterations.mean():.1f} on average")

# %% [markdown]
# ## Black boxes
#
# All attacks so far are white-box attacks: they need the weights, for the gradient. An attacker without them can
# train a substitute. It asks the network for labels of images of its own, learns to answer alike, and attacks itself.
# Many of these attacked images fool the original, too. The test images that it starts from are not attacked:

# %%
SEEDS = 8 if SMALL else 100
made = attacks.make_substitute(network, images[:SEEDS], classes=10, rounds=1 if SMALL else 3)
others = images[SEEDS:], labels[SEEDS:]
transferred = attacks.substitute(network, *others, substitute=made, epsilon=0.3)
agreement = np.mean(np.argmax(made.network(others[0]), axis=1) == np.argmax(network(others[0]), axis=1))
print(f"{made.queries} labels were asked for; then the two networks agree on {agreement:.0%} of other images")
print(f"accuracy at ε = 0.3: {np.mean(transferred.predictions == others[1]):.0%}; random signs leave more (see above)")
transferred

# %% [markdown]
# ## A sticker
#
# A patch covers a part of the image and is free within it. It is trained on many images, at random places, angles and
# sizes, so that it works wherever the attacker puts it, and it drives the network to one class.

# %%
train_images, _ = digits.arrays("train")
sticker = attacks.make_patch(network, train_images, target=3, steps=5 if SMALL else 200, scale=(0.3, 0.8))
patched = attacks.patch(network, images, labels, patch=sticker, epsilon=0.2)
figure, axes = plt.subplots(figsize=(1.8, 1.8))
axes.imshow(sticker.printable)
axes.set_axis_off()
axes.set_title("the patch for class 3", fontsize=9)
plt.show()
patched

# %% [markdown]
# The patch covers a fifth of each image. It does not look like a 3. It moves some of the digits to the class 3, and
# it hides others.
#
# ## Rotations and shifts
#
# No pixel has to be invented: it is enough to turn and shift the image. The attack tries a grid of rotations and
# shifts, and takes the worst for each image:

# %%
turned = attacks.spatial(network, images[:64], labels[:64], rotation=30, translation=1, angles=7, shifts=3)
turned

# %%
print("degrees, pixels right, pixels down:")
print(turned.transformations[:5].round(1))

# %% [markdown]
# A bound on the change of each pixel does not describe these attacks: a shift by one pixel changes many pixels by a
# lot.
#
# ## Images that show nothing
#
# Evolution needs no gradient, only the network's confidence. Keep a champion for each class, change it a little at
# random, and keep the child if the network is more confident of it. The results look like noise:

# %%
evolved = attacks.evolve(network, generations=3 if SMALL else 150, population=20 if SMALL else 100, grey=True)
evolved

# %% [markdown]
# The network has never seen anything like these images. It has no way to say so: the softmax always distributes 100 %
# over the ten digits.
#
# ## A defense: adversarial training
#
# Train on attacked images. Each training step first attacks its batch with PGD, and then learns the right labels of
# the result. That takes several times as long.

# %%
robust = train(attacks.Adversary(epsilon=0.1, steps=1 if SMALL else 4))
print(f"test accuracy {evaluate(robust, digits).accuracy:.1%}")
name = "PGD, 10 steps"
defended = [rate for _, rate in attacks.accuracy_against_epsilon(attacks.pgd, robust, images, labels, EPSILONS)]
draw_accuracies({f"{name}, usual training": curves[name], f"{name}, adversarial training (ε = 0.1)": defended})

# %% [markdown]
# The robust network keeps much more of its accuracy under attack. Beyond the ε that it was trained for, it falls,
# too.
#
# ## Questions
#
# 1. FGSM computes one gradient, PGD ten. Why is PGD not ten times as strong?
#    *Both stay within ±ε. PGD only finds a better point of the same box.*
# 2. Why is ε = 0.1 large for digits and very large for photographs?
#    *The effect adds up over the pixels. A photograph has a thousand times as many as these digits, so a smaller ε
#    suffices.*
# 3. Which of these attacks work with labels alone?
#    *The substitute, rotations, and evolution if it gets confidences. FGSM, PGD and DeepFool need gradients.*
# 4. Why does the clip to [0,1] matter?
#    *Without it the result is not an image: no screen can show a pixel of −0.1.*
