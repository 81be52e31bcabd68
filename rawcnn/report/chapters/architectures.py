"""Chapter 2: the four architectures of the lecture, what each claims, and the networks that followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rawcnn import data
from rawcnn.papers import PAPERS, Comparison, compare, profiled
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.profiling.costs import Profile
from rawcnn.report import kernel_claims
from rawcnn.report.album import Album
from rawcnn.report.page import Chapter, Section
from rawcnn.report.progress import Clock
from rawcnn.report.sections import architectures, depth, papers, zoo
from rawcnn.training.depth_gradients import Norms, gradient_norms
from rawcnn.training.plain_vs_residual import networks

STACKS = ((7,), (3, 3, 3), (5,), (3, 3))  # sizes of the filters that are stacked
DEPTHS = (20, 56)  # layers of the plain and the residual networks
BATCH = 8  # maps that the timed inception modules read
FAMILIES = {
    "AlexNet": ("alexnet",),
    "VGG": ("vgg_a", "vgg16", "vgg19"),
    "GoogLeNet": ("googlenet", "googlenet_naive"),
    "ResNet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
}


@dataclass(frozen=True)
class Architectures:
    """The costs of the networks, compared with their papers' tables."""

    comparisons: dict[str, Comparison]
    profiles: dict[str, Profile]
    stacks: Sequence[kernel_claims.Stack]
    modules: Sequence[kernel_claims.Module]
    norms: dict[str, Norms]  # gradient norms of plain and residual networks

    @classmethod
    def compute(cls, clock: Clock, seed: int) -> Architectures:
        """Count the networks, time GoogLeNet's modules, and measure gradients through depth."""
        comparisons, profiles = count(clock)
        stacks = [kernel_claims.stack(sizes) for sizes in STACKS]
        with clock.step("Time naive and reduced inception modules") as report:
            modules = kernel_claims.race_inception(batch=BATCH, progress=report)
        return cls(comparisons, profiles, stacks, modules, measure_depth(clock, seed))

    def render(self, album: Album) -> Chapter:
        """Return the chapter: one section for each paper of the lecture, with what it claims."""
        return Chapter(
            "Architectures",
            (
                self.landscape(album),
                architectures.alexnet(self.comparisons["alexnet"], self.profiles["alexnet"]),
                architectures.vgg(self.comparisons["vgg"], self.profiles["vgg16"]),
                architectures.small_kernels(self.stacks, album),
                architectures.googlenet(self.comparisons["googlenet"], self.profiles["googlenet"]),
                architectures.inception(
                    self.profiles["googlenet_naive"], self.profiles["googlenet"], self.modules, BATCH, album
                ),
                architectures.resnet(self.profiles["resnet152"], self.profiles["vgg19"]),
                depth.section(self.norms, album),
                papers.others(),
                zoo.tree(self.profiles, album),
            ),
            "Each network is one function that reads like its paper's table. rawcnn counts the costs by tracing that "
            "function. The appendix compares every printed number with the count.",
        )

    def landscape(self, album: Album) -> Section:
        """Return the plot of the four families."""
        families = [(family, self.profiles[name]) for family, names in FAMILIES.items() for name in names]
        return architectures.landscape(families, album)

    def to_dict(self) -> dict[str, object]:
        return {
            "papers": {name: comparison.to_dict() for name, comparison in self.comparisons.items()},
            "profiles": {name: {"totals": p.totals, "size": p.size} for name, p in self.profiles.items()},
            "kernels": [vars(s) for s in self.stacks],
            "inception": [m.to_dict() for m in self.modules],
            "gradient_norms": self.norms,
        }


def measure_depth(clock: Clock, seed: int) -> dict[str, Norms]:
    """Return the gradient norms of plain and residual networks before training, on a batch of digits."""
    with clock.step("Measure gradients through depth", len(networks(DEPTHS))) as report:
        return gradient_norms(
            data.load("digits"), depths=DEPTHS, seed=seed, progress=lambda done, total, _: report(done, total)
        )


def count(clock: Clock) -> tuple[dict[str, Comparison], dict[str, Profile]]:
    """Return the comparisons with the papers, and the profiles of all networks that are shown."""
    shown = [name for family in FAMILIES.values() for name in family] + [row.model for row in ERRORS]
    names = list(dict.fromkeys(shown))
    total = len(PAPERS) + len(names)
    with clock.step("Count what the papers count", total) as report:
        comparisons, profiles = {}, {}
        for number, paper in enumerate(PAPERS):
            comparisons[paper] = compare(paper)
            report(number + 1, total)
        for number, name in enumerate(names):
            profiles[name] = profiled(name)
            report(len(PAPERS) + number + 1, total)
    return comparisons, profiles
