"""`rawcnn benchmark`: one subcommand for each kind of benchmark; a model's name without one races networks."""

from __future__ import annotations

from collections.abc import Callable

import typer
from typer.core import TyperGroup

from rawcnn.cli.benchmarks import attacks, build, gradients, growth, kernels, networks, scale, visualize

KINDS: dict[str, Callable[..., None]] = {
    "networks": networks.networks,
    "kernels": kernels.kernels,
    "attacks": attacks.attacks,
    "visualize": visualize.visualize,
    "gradients": gradients.gradients,
    "memory": networks.memory,
    "growth": growth.growth,
    "build": build.build,
    "scale": scale.scale,
}
DEFAULT = "networks"


class BenchmarkGroup(TyperGroup):
    """A group that runs `networks` where the first word names no kind: `rawcnn benchmark resnet50`."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        if args[:1] not in (["-h"], ["--help"]):
            place = self._first_positional(args)
            if place is not None and args[place] in self.commands:  # options may precede it
                args = [args[place], *args[:place], *args[place + 1 :]]
            else:
                args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _first_positional(self, args: list[str]) -> int | None:
        """Return the index of the first word that is neither an option nor an option's value."""
        options = [option for command in self.commands.values() for option in command.params]
        flags = {word for option in options if getattr(option, "is_flag", False) for word in _words(option)}
        index = 0
        while index < len(args):
            word = args[index]
            if not word.startswith("-"):
                return index
            index += 1 if word in flags or "=" in word else 2
        return None


def _words(option) -> list[str]:
    """Return the words that set an option: --memory and --no-memory."""
    return [*option.opts, *option.secondary_opts]


app = typer.Typer(
    help="Race rawcnn against other libraries.\n\nThe results of all contestants are compared before they are timed. "
    "Other kinds measure how rawcnn's own work grows and scales. `rawcnn benchmark MODEL…` is short for `rawcnn "
    "benchmark networks MODEL…`.",
    cls=BenchmarkGroup,
    rich_markup_mode=None,
)
for name, kind in KINDS.items():
    app.command(name)(kind)
