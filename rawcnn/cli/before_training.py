"""`rawcnn train --profile-input` and `--find-rate`: measurements in place of a training."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from rawcnn.cli.console import Screen

if TYPE_CHECKING:
    from rawcnn.cli.train import TrainRequest

RATES, LOSSES = "rates.png", ("losses", "smoothed")  # file and quantities of --find-rate


def profile_input(request: TrainRequest, plan, data, screen: Screen) -> dict[str, float]:
    """Compare the throughput of the input pipeline with that of the training step."""
    from rawcnn.training.suitable import check_splits
    from rawcnn.training.throughput import measure_throughput

    check_splits(data)
    where = "in memory" if data.splits["train"].images is not None else "streamed"
    screen.print_settings(
        {
            "model": plan.model,
            "data": data.name,
            "images": where,
            "batch": plan.recipe.batch,
            "precision": request.precision,
        }
    )
    network = plan.network(data, request.seed, request.precision)
    with screen.progress_bar("measuring") as report:
        measured = measure_throughput(
            network, plan.recipe, data, compile=request.compile, adversary=plan.adversary, progress=report
        )
    screen.print(measured.sentence())
    return {
        "input_images_per_second": measured.input,
        "step_images_per_second": measured.step,
        "ratio": measured.ratio,
    }


def range_test(request: TrainRequest, plan, data, screen: Screen) -> dict[str, Any]:
    """Run a learning-rate range test, draw it and print the suggestion."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.plots.microscope import losses_against_rates
    from rawcnn.plots.themed import LIGHT, save
    from rawcnn.training.rate_range import find_rate
    from rawcnn.training.suitable import check_splits

    check_splits(data)
    settings = {"model": plan.model, "data": data.name, "recipe": plan.recipe.name, "batch": plan.recipe.batch}
    settings |= {"optimizer": plan.recipe.optimizer, "seed": request.seed, "size": plan.size or data.size}
    screen.print_settings({**settings, "precision": request.precision, "output": request.folder})
    network = plan.network(data, request.seed, request.precision)
    with screen.progress_bar("raising the learning rate") as report:
        found = find_rate(
            network, plan.recipe, data, seed=request.seed, compile=request.compile, adversary=plan.adversary,
            progress=report,
        )  # fmt: skip
    plot, figures = request.folder / RATES, (request.folder / RATES).with_suffix(".json")
    save(losses_against_rates(found.rates, found.losses, found.smoothed, found.suggestion), plot, LIGHT, (6, 3.6))
    losses = {name: [loss if isfinite(loss) else None for loss in getattr(found, name)] for name in LOSSES}
    result = {"suggestion": found.suggestion, "reason": found.reason, "rates": found.rates, **losses}
    write_atomic(figures, json.dumps(result, indent=1, allow_nan=False).encode())
    suggestion = f"suggested: --rate {found.suggestion:.2g}" if found.suggestion else "no suggestion"
    screen.print(f"{suggestion}, because {found.reason}")
    screen.print(f"wrote {plot} and {figures}")
    return result
