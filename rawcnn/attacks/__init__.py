"""Adversarial attacks: images changed so little that people do not notice, and so that the network is wrong.

Each attack takes a network (or any function images → logits), images [B,H,W,3] in [0,1] and labels, and returns an
`AttackResult`. There is one module per family of attacks. `runtime` compiles and repeats their steps.
"""

from collections.abc import Callable

from rawcnn.attacks.adversarial_patch import Patch, make_patch, patch
from rawcnn.attacks.adversarial_training import Adversary
from rawcnn.attacks.ascent import ascend
from rawcnn.attacks.black_box import Substitute, make_substitute, substitute
from rawcnn.attacks.dataset_study import Study, study
from rawcnn.attacks.epsilon_sweep import accuracy_against_epsilon, columns_of, examples_of, sweep
from rawcnn.attacks.evolution import FoolingImages, evolve
from rawcnn.attacks.gradient import bim, fgsm, mi_fgsm, pgd
from rawcnn.attacks.logit_ascent import logit_pga
from rawcnn.attacks.minimal_epsilon import smallest
from rawcnn.attacks.nearest_boundary import deepfool
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.spatial_search import SpatialResult, spatial

# The attacks that work on every network and need nothing made in advance.
ATTACKS: dict[str, Callable[..., AttackResult]] = {
    "fgsm": fgsm,
    "bim": bim,
    "mi_fgsm": mi_fgsm,
    "pgd": pgd,
    "deepfool": deepfool,
    "spatial": spatial,
}

__all__ = [
    "ATTACKS",
    "Adversary",
    "AttackResult",
    "FoolingImages",
    "Patch",
    "SpatialResult",
    "Study",
    "Substitute",
    "accuracy_against_epsilon",
    "ascend",
    "bim",
    "columns_of",
    "deepfool",
    "evolve",
    "examples_of",
    "fgsm",
    "logit_pga",
    "make_patch",
    "make_substitute",
    "mi_fgsm",
    "patch",
    "pgd",
    "smallest",
    "spatial",
    "study",
    "substitute",
    "sweep",
]
