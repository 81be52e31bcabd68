"""Attacks: images changed so little that people do not see it, and so that the network is wrong.

Each takes a network (or any function images → logits), images [B,H,W,3] in [0,1] and labels, and gives an
AttackResult. One file a family.
"""

from collections.abc import Callable

from rawcnn.attacks.gradient import fgsm, pgd
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.sweep import accuracy_against_epsilon, examples_of, sweep

ATTACKS: dict[str, Callable[..., AttackResult]] = {"fgsm": fgsm, "pgd": pgd}

__all__ = ["ATTACKS", "AttackResult", "accuracy_against_epsilon", "examples_of", "fgsm", "pgd", "sweep"]
