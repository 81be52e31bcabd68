"""Training recipes, named after the papers that printed them, and two modern ones.

A recipe is data. `learning_rate(recipe, epoch, drops)` evaluates its schedule; `rawcnn.training.trainer` does the rest.
Each value is followed by its section in the paper. A value that the paper does not print is marked "ours" or with its
source. `dataclasses.replace` makes a variant.

Dropout is part of the network: the model's file has it where the paper's table has it.

Learning rates belong to losses that are means over the batch. Weight decay λ adds λ/2·Σw² to the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from kernels.geometry import shown
from rawcnn.data.augmentation import Augmentation
from rawcnn.optim.optimizers import UPDATE_RULES
from rawcnn.optim.schedules import Constant, Exponential, OneCycle, OnPlateau, Schedule, Step, WarmUp

GRADIENTS = ("tape", "hand")


@dataclass(frozen=True)
class Recipe:
    """How to train: everything but the network and the data.

    Raises:
        ValueError: A value is out of range.
    """

    name: str
    source: str
    batch: int
    epochs: int
    rate: float  # the largest learning rate; the schedule's factor multiplies it
    schedule: Schedule = Constant()  # noqa: RUF009 (frozen)
    optimizer: str = "momentum"  # one of rawcnn.optim.optimizers.UPDATE_RULES
    momentum: float = 0.9
    decay: float = 0.9  # of RMSProp's mean square
    epsilon: float = 1.0  # RMSProp's
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip: float | None = None  # the largest global norm of the gradients
    average: float | None = None  # decay of the moving average of the variables that evaluation uses
    average_statistics: bool = True  # average the batch-norm statistics, too, as TF-slim does
    auxiliary_weight: float = 0.0  # factor of each auxiliary head's loss, in models that have heads
    auxiliary_smoothing: bool = True  # smooth the labels of the auxiliary heads, too, as TF-slim does
    decay_all: bool = False  # weight decay of all trained variables, not of filters and weights alone
    gradients: str = "tape"  # computed by TensorFlow's "tape", or by "hand": one of GRADIENTS
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("batch", self.batch == int(self.batch) and self.batch >= 1, "an integer, at least 1"),
            ("epochs", self.epochs == int(self.epochs) and self.epochs >= 1, "an integer, at least 1"),
            ("rate", 0 < self.rate < math.inf, "a positive number"),
            ("gradients", self.gradients in GRADIENTS, " or ".join(map(repr, GRADIENTS))),
            ("optimizer", self.optimizer in UPDATE_RULES, f"one of {', '.join(UPDATE_RULES)}"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("decay", 0 <= self.decay < 1, "from 0 to below 1"),
            ("epsilon", 0 < self.epsilon < math.inf, "a positive number"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1"),
            ("clip", self.clip is None or self.clip > 0, "None or a positive number"),
            ("average", self.average is None or 0 < self.average < 1, "None or between 0 and 1"),
            ("auxiliary_weight", 0 <= self.auxiliary_weight < math.inf, "0 or more"),
        ):
            if not holds:
                value = getattr(self, name)
                raise ValueError(f"{name} of the recipe {self.name} is {value!r}; expected {expected}")


def learning_rate(recipe: Recipe, epoch: float, drops: int = 0) -> float:
    """Return the learning rate.

    Args:
        recipe: The recipe.
        epoch: The epoch from 0, with its fraction.
        drops: The number of plateaus so far.
    """
    return recipe.rate * recipe.schedule(epoch, recipe.epochs, drops)


ALEXNET = Recipe(
    name="alexnet2012",
    source="Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012",
    batch=128,  # section 5
    epochs=90,  # section 5: "roughly 90 cycles"
    rate=0.01,  # section 5
    schedule=OnPlateau(0.1, most=3),  # section 5: ÷10, "reduced three times prior to termination"
    weight_decay=5e-4,  # section 5
    augmentation=Augmentation(flip=True, crop=224, lighting=0.1),  # section 4.1, out of images of 256
)

VGG = Recipe(
    name="vgg2014",
    source="Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015",
    batch=256,  # section 3.1, as all values here
    epochs=74,
    rate=0.01,
    schedule=OnPlateau(0.1, most=3),
    weight_decay=5e-4,
    augmentation=Augmentation(flip=True, crop=224, jitter=(256, 512), lighting=0.1),
)

GOOGLENET = Recipe(
    name="googlenet2014",
    source="Szegedy et al., Going Deeper with Convolutions, 2015; otherwise BVLC's in Caffe",
    batch=32,  # BVLC/caffe, models/bvlc_googlenet
    epochs=250,  # bvlc_googlenet: 10,000,000 steps
    rate=0.01,  # bvlc_googlenet
    schedule=Exponential(0.96, every=8),  # section 6: −4 % every 8 epochs
    weight_decay=2e-4,  # bvlc_googlenet
    average=0.9999,  # section 6: "Polyak averaging"; the decay is Inception V3's in TF-slim
    auxiliary_weight=0.3,  # section 5
    augmentation=Augmentation(flip=True, crop=224, area=(0.08, 1.0)),  # section 6
)

BN_INCEPTION = Recipe(
    name="bn_inception2015",  # inception_v2 has no auxiliary heads
    source="Ioffe, Szegedy, Batch Normalization, 2015: the network BN-x30",
    batch=32,  # section 4.2
    epochs=150,  # section 4.2.2: 6·10⁶ steps
    rate=0.045,  # section 4.2.2: 30 times Inception's .0015 (BN-x5: .0075)
    schedule=Exponential(0.96, every=8 / 6),  # section 4.2.1: decays 6 times faster than Inception
    momentum=0.9,  # section 4.2: "momentum", without a value; .9 is Inception's (GoogLeNet's section 6)
    weight_decay=2e-4 / 5,  # section 4.2.1: a fifth of Inception's
    augmentation=Augmentation(flip=True, crop=224, area=(0.08, 1.0)),  # Inception's
)

INCEPTION_V3 = Recipe(
    name="inception_v3_2015",
    source="Szegedy et al., Rethinking the Inception Architecture, 2016; otherwise TF-slim's",
    batch=32,  # section 8, on each of 50 machines
    epochs=100,  # section 8
    rate=0.045,  # section 8
    schedule=Exponential(0.94, every=2),  # section 8
    optimizer="rmsprop",  # section 8: "our best models"
    decay=0.9,  # section 8
    epsilon=1.0,  # section 8; where it stands in the rule is TensorFlow's: inside of the root
    momentum=0.9,  # the authors' code (inception_train.py); section 8 has .9 for earlier experiments without RMSProp
    weight_decay=4e-5,  # TF-slim
    label_smoothing=0.1,  # section 7
    clip=2.0,  # section 8
    average=0.9999,  # section 8: "a running average of the parameters"; the decay is TF-slim's
    auxiliary_weight=0.4,  # TF-slim; here inception_v3 and NASNet have heads, inception_v4 and inception_resnet_v2 none
    augmentation=Augmentation(flip=True, crop=299, area=(0.08, 1.0)),  # GoogLeNet's
)

RESNET = Recipe(
    name="resnet2015",
    source="He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016",
    batch=256,  # section 3.4, as all values here
    epochs=120,  # "up to 60·10⁴ iterations"
    rate=0.1,
    schedule=OnPlateau(0.1, most=3),  # ÷10 "when the error plateaus"
    momentum=0.9,  # not Nesterov's: that is of fb.resnet.torch, a later implementation (see RESNEXT)
    weight_decay=1e-4,
    augmentation=Augmentation(flip=True, crop=224, jitter=(256, 480), lighting=0.1),
)

RESNET_CIFAR = replace(
    RESNET,
    name="resnet2015_cifar",
    batch=128,  # section 4.2, as all values here
    epochs=164,  # 64,000 steps over 50,000 images
    schedule=Step(at=(32 / 64, 48 / 64)),  # ÷10 at 32,000 and 48,000 steps
    augmentation=Augmentation(flip=True, pad=4),
)

RESNET_CIFAR_110 = replace(
    RESNET_CIFAR,
    name="resnet2015_cifar110",
    # Section 4.2: n = 18 starts at .01 until the training error is below 80 %, about 400 steps: an epoch.
    schedule=WarmUp(RESNET_CIFAR.schedule, length=1, start=0.1, end=0.1),
)

RESNEXT = replace(
    RESNET,
    name="resnext2016",
    source="Xie et al., Aggregated Residual Transformations for Deep Neural Networks, 2017",
    epochs=100,  # ours: room for the third drop
    schedule=Step(at=(0.3, 0.6, 0.9)),  # section 4: ÷10 three times, as fb.resnet.torch: every 30 epochs
    # Section 4 prints a momentum of .9, without its kind, and follows fb.resnet.torch. Its train.lua has Nesterov's,
    # without dampening. It multiplies the velocity by the rate, not each gradient: the same while the rate is constant.
    optimizer="nesterov",
    decay_all=True,  # train.lua: biases and batch norm, too
    augmentation=Augmentation(flip=True, crop=224, area=(0.08, 1.0), lighting=0.1, color_jitter=0.4),
)

SENET = replace(
    RESNET,
    name="senet2017",
    source="Hu, Shen, Albanie, Sun, Wu, Squeeze-and-Excitation Networks, 2018",
    batch=1024,  # section 5.1 of the journal version, as all values here; the weight decay is ResNet's
    rate=0.6,
    epochs=100,
    schedule=Step(at=(0.3, 0.6, 0.9)),  # ÷10 every 30 epochs
    augmentation=Augmentation(flip=True, crop=224, area=(0.08, 1.0)),
)

NASNET = replace(
    INCEPTION_V3,
    name="nasnet2017",
    source="Zoph et al., Learning Transferable Architectures, 2018; otherwise Inception V3's",
    # Appendix A.7: RMSProp with decay .9 and ε 1, smoothing .1, average .9999, auxiliary weight .4
    augmentation=Augmentation(flip=True, crop=331, area=(0.08, 1.0)),  # NASNet-A large; mobile: 224
)

ONECYCLE = Recipe(
    name="onecycle",
    source="Smith, Topin, Super-Convergence, 2019; the values are ours, for CIFAR-10",
    batch=128,
    epochs=15,
    rate=0.2,
    schedule=OneCycle(),
    optimizer="nesterov",
    weight_decay=5e-4,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, pad=4),
)

DIGITS = replace(
    ONECYCLE,
    name="digits",
    source="ours, for the 8×8 digits of scikit-learn: no flip, because a mirrored 2 is not a digit",
    batch=64,
    epochs=30,
    rate=0.1,
    augmentation=Augmentation(shift=1),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        ALEXNET,
        VGG,
        GOOGLENET,
        BN_INCEPTION,
        INCEPTION_V3,
        RESNET,
        RESNET_CIFAR,
        RESNET_CIFAR_110,
        RESNEXT,
        SENET,
        NASNET,
        ONECYCLE,
        DIGITS,
    )
}


def check_recipe(recipe: object) -> None:
    """Raise ValueError for anything but a recipe."""
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe is {shown(recipe)}; expected a Recipe, such as find_recipe('onecycle')")


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`. Raises ValueError that lists all names."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; the recipes are {', '.join(RECIPES)}")
    return RECIPES[name]
