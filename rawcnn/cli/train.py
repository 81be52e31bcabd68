"""`rawcnn train`: train a model, alone or with other workers, and resume an interrupted run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli import before_training, supervise
from rawcnn.cli.console import Screen, on_sigterm
from rawcnn.cli.options import (
    AMOUNT,
    Compile,
    Data,
    Json,
    Model,
    Options,
    Precision,
    Recipe,
    Seed,
    Size,
    SkipUnreadable,
)
from rawcnn.cli.parsing import ImageSize, check_finite, check_share, parse_amount, parse_model_settings
from rawcnn.cli.request import Request, begin, epoch_line, load_data

RESTARTS = 10  # of a worker, unless --restarts says otherwise
WAIT = 10.0  # minutes for the other workers, unless --wait says otherwise
ADVERSARIAL_STEPS = 7  # of PGD, unless --adversarial-steps says otherwise


@dataclass(frozen=True)
class Distribution:
    """The options of a run on several devices or machines."""

    strategy: str | None
    replicas: int | None
    restarts: int | None
    wait: float | None

    def check(self) -> None:
        """Raise ValueError for an option that belongs to another strategy."""
        check_finite(wait=self.wait)
        if self.replicas and self.strategy != "mirrored":
            raise ValueError("--replicas belongs to --strategy mirrored; give that, too")
        if self.strategy != "multiworker" and (self.restarts is not None or self.wait is not None):
            raise ValueError("--restarts and --wait belong to --strategy multiworker; give that, too")


@dataclass(frozen=True)
class AdversarialTraining:
    """The options of adversarial training."""

    epsilon: float | None
    steps: int | None
    step: float | None

    def check(self) -> None:
        """Raise ValueError for options without an epsilon."""
        if self.epsilon is None and (self.steps is not None or self.step is not None):
            raise ValueError(
                "--adversarial-steps and --adversarial-step belong to --adversarial EPSILON; give that, too"
            )

    def adversary(self):
        """Return the Adversary that perturbs the images of each step; None for ordinary training."""
        from rawcnn.attacks import Adversary

        if self.epsilon is None:
            return None
        step = self.epsilon / 4 if self.step is None else self.step
        return Adversary(self.epsilon, step, self.steps or ADVERSARIAL_STEPS)


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Request):
    """The options of `rawcnn train`."""

    model: str
    data: str
    recipe: str | None
    epochs: int | None
    batch: int | None
    rate: float | None
    gradients: str | None
    adversarial: AdversarialTraining
    distribution: Distribution
    precision: str
    size: ImageSize | None
    option: Sequence[str] | None
    folder: Path
    save_every: float  # minutes
    fresh: bool
    tensorboard: bool
    images: bool
    trace: bool
    microscope: bool
    compile: str
    skip_unreadable: bool
    memory: float  # GiB
    validation: float | None
    profile_input: bool
    find_rate: bool

    @property
    def checked_file(self) -> Path | None:
        return self.folder / before_training.RATES if self.find_rate else None

    def check(self) -> None:
        check_finite(rate=self.rate, save_every=self.save_every, memory=self.memory, validation=self.validation)
        check_share("--validation", self.validation)
        self.adversarial.check()
        self.distribution.check()
        if self.profile_input:
            self._check_alone("--profile-input", {"--strategy": self.distribution.strategy})
        if self.find_rate:
            self._check_alone("--find-rate", {"--profile-input": self.profile_input, **self._training_options()})
        if self.profile_input and self.microscope:
            raise ValueError("--profile-input trains nothing that --microscope could measure; leave one of them out")

    def _training_options(self) -> dict[str, object]:
        """The options, by name, that belong to a complete training: a range test has its own rates and steps."""
        return {
            "--strategy": self.distribution.strategy, "--rate": self.rate, "--epochs": self.epochs,
            "--fresh": self.fresh, "--microscope": self.microscope, "--images": self.images, "--trace": self.trace,
        }  # fmt: skip

    def _check_alone(self, option: str, others: Mapping[str, object]) -> None:
        """Raise ValueError if `option` is combined with one of the others, which are given unless None or False."""
        given = [name for name, value in others.items() if value not in (None, False)]
        if given:
            why = {"--strategy": "measures a single device", "--rate": "tries all rates"}
            raise ValueError(f"{option} {why.get(given[0], 'does not train a run')}; leave {' and '.join(given)} out")


def train(
    model: Model,
    data: Data = "digits",
    recipe: Recipe = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs; default: the recipe's.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size; default: the recipe's.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Largest learning rate; default: the recipe's.")] = None,
    gradients: Annotated[
        str | None,
        typer.Option(
            help="tape (TensorFlow's automatic differentiation) or hand (the gradients that the kernels write out)."
        ),
    ] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(
            metavar="EPSILON",
            parser=parse_amount,
            help="Train on images whose pixels in [0, 1] PGD changes by at most this much, such as 8/255.",
        ),
    ] = None,
    adversarial_steps: Annotated[
        int | None, typer.Option(help=f"Number of PGD steps; default: {ADVERSARIAL_STEPS}.", min=1)
    ] = None,
    adversarial_step: Annotated[
        float | None,
        typer.Option(
            help="Size of a PGD step, such as 2/255; default: epsilon / 4.", parser=parse_amount, metavar=AMOUNT
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="Distribute the run: mirrored over this machine's GPUs, or multiworker as TF_CONFIG says."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="With --strategy mirrored, without GPUs: number of logical CPU devices.", min=1)
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(help=f"With --strategy multiworker: how often a worker restarts; default: {RESTARTS}.", min=0),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            help=f"With --strategy multiworker: minutes to wait for the others; default: {WAIT:g}.", min=0, max=1e5
        ),
    ] = None,
    precision: Precision = "float32",
    size: Size = None,
    option: Options = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/MODEL.")] = None,
    save_every: Annotated[
        float,
        typer.Option(help="Minutes between checkpoints within an epoch; each epoch ends with one.", min=0, max=1e5),
    ] = 10.0,
    fresh: Annotated[
        bool,
        typer.Option(
            help="Start over: delete the checkpoints, curves and events in the folder. The weights are replaced at "
            "the end."
        ),
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard events of steps and epochs.")] = True,
    images: Annotated[
        bool, typer.Option(help="Add augmented images, filters and misclassified test images to the events.")
    ] = False,
    trace: Annotated[bool, typer.Option(help="Add a profiler trace of some steps to the events.")] = False,
    microscope: Annotated[
        bool,
        typer.Option(
            help="Measure each layer once per epoch: dead ReLUs, norms of activations and gradients, update ratio, "
            "filters. Writes microscope.npz and the page microscope/index.html into the folder."
        ),
    ] = False,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    memory: Annotated[
        float, typer.Option(help="GiB that decoded images may take; larger data sets are streamed.", min=0, max=2**20)
    ] = 1.0,
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of the training images to hold out, such as 0.1: each epoch evaluates them, they choose the "
            "best epoch, and the test images are evaluated once, at the end. Default: the data's own validation "
            "split, if any; a tenth for recipes that lower the learning rate on plateaus."
        ),
    ] = None,
    profile_input: Annotated[
        bool, typer.Option(help="Do not train; compare the throughput of the input pipeline with the training step's.")
    ] = False,
    find_rate: Annotated[
        bool,
        typer.Option(
            help="Do not train; raise the learning rate from batch to batch on a copy of the network, until the loss "
            "diverges. Prints a suggestion and writes rates.png and rates.json into the folder."
        ),
    ] = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Train a model.

    An interrupted run resumes from its last checkpoint. SIGTERM saves a checkpoint and stops the run.
    """
    request = TrainRequest(
        model=model, data=data, recipe=recipe, epochs=epochs, batch=batch, rate=rate, gradients=gradients,
        adversarial=AdversarialTraining(adversarial, adversarial_steps, adversarial_step),
        distribution=Distribution(strategy, replicas, restarts, wait), precision=precision, size=size, option=option,
        folder=output or Path("runs") / model, save_every=save_every, fresh=fresh, tensorboard=tensorboard,
        images=images, trace=trace, microscope=microscope, compile=compile, skip_unreadable=skip_unreadable,
        memory=memory, validation=validation, profile_input=profile_input, find_rate=find_rate, as_json=as_json,
        seed=seed,
    )  # fmt: skip
    run_training(request)


def run_training(request: TrainRequest) -> None:
    """Prepare the run, resume from the folder's last checkpoint, and train."""
    with begin(request) as run:
        screen = run.screen
        if request.distribution.strategy == "multiworker":
            _join_workers(request.distribution, screen)
        with on_sigterm(partial(_stop_early, screen)):
            plan, cluster = _prepare(request)
            supervise.report_met()
            memory = round(request.memory * 2**30)
            data = load_data(
                screen, request.data, plan.data_size, request.skip_unreadable, memory, validation=request.validation
            )
            if request.profile_input:
                run.result = before_training.profile_input(request, plan, data, screen)
                return
            if request.find_rate:
                run.result = before_training.range_test(request, plan, data, screen)
                return
            training = plan.training(
                data, request.folder, seed=request.seed, precision=request.precision, compile=request.compile,
                save_every=60 * request.save_every, fresh=request.fresh, cluster=cluster,
            )  # fmt: skip
            supervise.report_started()
        _print_resolved(request, training, screen)
        result = _fit(request, training, data, screen)
        if request.microscope and training.devices.writes:
            _write_page(request, training, screen)
        if result:
            _print_result(training, result, screen)


def _join_workers(distribution: Distribution, screen: Screen) -> None:
    """In a supervised process, watch for the end of its supervisor; otherwise supervise a child, then exit."""
    from rawcnn.training.tf_config import check_configuration

    if supervise.is_supervised():
        supervise.exit_with_supervisor()
        return
    check_configuration()
    restarts = RESTARTS if distribution.restarts is None else distribution.restarts
    wait = WAIT if distribution.wait is None else distribution.wait
    raise typer.Exit(supervise.run_supervised(restarts, 60 * wait, screen.note))


def _prepare(request: TrainRequest):
    """Resolve recipe, sizes and devices: (Plan, Cluster or None)."""
    from rawcnn.training.distributed import make_cluster
    from rawcnn.training.run import prepare

    plan = prepare(
        request.model, request.data, request.recipe, epochs=request.epochs, batch=request.batch, rate=request.rate,
        gradients=request.gradients, size=request.size, options=parse_model_settings(request.option, "size", "classes"),
        adversary=request.adversarial.adversary(),
    )  # fmt: skip
    strategy, replicas = request.distribution.strategy, request.distribution.replicas
    if replicas and plan.recipe.batch % replicas:
        raise ValueError(
            f"a batch of {plan.recipe.batch} cannot be divided into {replicas} equal parts; give another --batch"
        )
    return plan, make_cluster(strategy, replicas) if strategy else None


def _stop_early(screen: Screen) -> None:
    """End the command at SIGTERM; SystemExit, because a handler of errors could swallow an ordinary exception."""
    screen.print("stopped on request before the training started")
    raise SystemExit(0)


def _print_resolved(request: TrainRequest, training, screen: Screen) -> None:
    """Print the resolved settings and the state from which the run resumes."""
    recipe, cluster, adversary = training.recipe, training.cluster, training.adversary
    settings: dict[str, Any] = {
        "model": request.model,
        "data": request.data,
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "rate": recipe.rate,
        "gradients": recipe.gradients,
        "seed": training.seed,
        "size": training.network.input_size,
        "precision": training.network.precision,
        "compile": training.choice.mode,
        "output": request.folder,
    }
    if cluster:
        worker = f"{cluster.worker + 1} of {cluster.workers}"
        settings |= {"strategy": cluster.name, "devices": cluster.count, "worker": worker}
    if adversary:
        settings |= {"adversarial": adversary.epsilon, "step": adversary.step, "steps": adversary.steps}
    screen.print_settings(settings)
    if recipe.auxiliary_weight and not training.network.auxiliary:
        screen.note(f"{request.model} has no auxiliary heads: the recipe's weight of their losses has no effect")
    for damaged, why in training.damaged.items():
        screen.note(f"skipped the damaged checkpoint {damaged} ({why})")
    if training.epoch or training.at.steps:
        screen.print(f"resuming after {_position(training)}")


def _position(training) -> str:
    """How far the training is: "epoch 3 and 20 steps"."""
    steps = training.at.steps
    return f"epoch {training.epoch}" + (f" and {steps} step{'s' * (steps != 1)}" if steps else "")


def _fit(request: TrainRequest, training, data, screen: Screen):
    """Train to the end and return the Evaluation; None if SIGTERM stopped the training."""
    from rawcnn.training.run import run as fit
    from rawcnn.training.trainer import Stopped

    def on_epoch(summary: dict[str, float]) -> None:
        screen.note(epoch_line(request.model, summary))
        screen.print_json_line(summary)

    with screen.progress_bar(f"training {request.model}") as report, on_sigterm(training.stop):

        def on_step(done: int, steps: int, m: dict[str, float]) -> None:
            report(done, steps, f"epoch {training.epoch + 1}  loss {m['loss']:.4f}  rate {m['rate']:.4g}")

        try:
            return fit(
                training, data, tensorboard=request.tensorboard, images=request.images, trace=request.trace,
                microscope=request.microscope, draw_curves=_draw_curves, draw_filters=_draw_filters, on_step=on_step,
                on_epoch=on_epoch, report=screen.note,
            )  # fmt: skip
        except Stopped:
            screen.print(f"stopped on request after {_position(training)}; run the same command again to resume")
            return None


def _write_page(request: TrainRequest, training, screen: Screen) -> None:
    """Draw what the microscope has measured so far."""
    from rawcnn.report.microscope_page import write_page
    from rawcnn.training.observations import FILE, read_observations

    if not (request.folder / FILE).exists():  # a run that was stopped before its first measurement
        return
    settings = f"Recipe {training.recipe.name}, data {request.data}, seed {training.seed}."
    observations = read_observations(request.folder / FILE)
    page = write_page(request.folder / "microscope", training.network, observations, training.history, settings)
    screen.print(f"wrote {page} and {request.folder / FILE}")


def _draw_curves(history: list[dict[str, float]], file: Path) -> None:
    """Draw the curves of a run to a file."""
    from rawcnn.plots import figures

    figures.save(figures.training_curves(history), file)


def _draw_filters(network):
    """Return the picture of the first layer's filters, [H,W,3] in [0,1]; None if no layer reads the images."""
    from rawcnn.visualize.filters import filter_grid, first_layers

    layers = first_layers(network)
    return filter_grid(network, layers[0]) if layers else None


def _print_result(training, result, screen: Screen) -> None:
    """Print the test accuracy and the files that were written."""
    low, high = result.interval
    best = training.progress.best
    files = [str(training.folder / name) for name in ("weights.safetensors", "history.json", "curves.png")]
    screen.print(
        f"test accuracy {result.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) of {result.count} images"
        + (f", with epoch {best.epoch}, the best of {best.accuracy:.2%} validation accuracy" if best else "")
    )
    if training.devices.writes:
        screen.print(f"wrote {files[0]}, {files[1]} and {files[2]}")
    chosen = {"best_epoch": best.epoch, "validation_accuracy": best.accuracy} if best else {}
    screen.print_json_line({"result": result.summary(), "weights": files[0], **chosen})
