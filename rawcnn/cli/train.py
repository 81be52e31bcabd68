"""The verb that trains: train."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen, terminated
from rawcnn.cli.options import (
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
    check_finite,
    epoch_line,
    load_data,
    settings_of,
)


def train(
    model: Model,
    data: Data = "digits",
    recipe: Recipe = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Largest learning rate, instead of the recipe's.")] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="Train on images that PGD attacks within this epsilon, of 1: 8/255 is 0.0314.")
    ] = None,
    adversarial_steps: Annotated[int | None, typer.Option(help="Its steps; 7 otherwise.", min=1)] = None,
    adversarial_step: Annotated[float | None, typer.Option(help="Their size; a quarter of epsilon otherwise.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="Share the run: mirrored, among this machine's GPUs; multiworker, as TF_CONFIG says."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="With mirrored, on a machine without GPUs: logical CPU devices.", min=1)
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help="With multiworker: how often a lost worker starts again; 10 otherwise.", min=0)
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(help="With multiworker: minutes that the others have to start; 10 otherwise.", min=0, max=1e5),
    ] = None,
    precision: Precision = "float32",
    size: Size = None,
    option: Options = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; runs/MODEL otherwise.")] = None,
    save_every: Annotated[
        float, typer.Option(help="Minutes between checkpoints within an epoch; each ends with one.", min=0, max=1e5)
    ] = 10.0,
    fresh: Annotated[
        bool,
        typer.Option(
            help="Start over: a run in the folder loses its checkpoints, curves and events, and at the end its weights."
        ),
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write event files of steps and epochs.")] = True,
    images: Annotated[
        bool, typer.Option(help="In these also augmented images, filters, and test images taken for something else.")
    ] = False,
    trace: Annotated[bool, typer.Option(help="In these also a profiler trace of some steps after the first.")] = False,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    memory: Annotated[
        float, typer.Option(help="GiB that decoded images may take; larger data are streamed.", min=0, max=2**20)
    ] = 1.0,
    profile_input: Annotated[
        bool, typer.Option(help="Only measure whether the images come as fast as the step takes them.")
    ] = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Train a model; a run that was stopped goes on from its last checkpoint. SIGTERM saves one and ends the run."""
    from rawcnn.cli.supervise import all_are_here, end_with_the_watcher, run_has_begun, watch_over, watched
    from rawcnn.training.distributed import check_configuration, cluster_of
    from rawcnn.training.run import prepare, run
    from rawcnn.training.trainer import Stopped

    screen = Screen(as_json)
    check_finite(rate=rate, adversarial=adversarial, wait=wait, save_every=save_every, memory=memory)
    check_finite(adversarial_step=adversarial_step)
    _check_sharing(strategy, replicas, restarts, wait, profile_input)
    if strategy == "multiworker" and not watched():
        restarts, wait = 10 if restarts is None else restarts, 10.0 if wait is None else wait
        check_configuration()
        raise typer.Exit(watch_over(restarts, 60 * wait, screen.tell))
    if strategy == "multiworker":
        end_with_the_watcher()
    with terminated(partial(_ended_early, screen)):
        plan = prepare(
            model, data, recipe, epochs=epochs, batch=batch, rate=rate, size=size, options=settings_of(option),
            adversary=_adversary(adversarial, adversarial_steps, adversarial_step),
        )  # fmt: skip
        if replicas and plan.recipe.batch % replicas:
            raise ValueError(f"a batch of {plan.recipe.batch} has no {replicas} equal parts; give another --batch")
        cluster = cluster_of(strategy, replicas) if strategy else None
        all_are_here()
        found = load_data(screen, data, plan.data_size, skip_unreadable, round(memory * 2**30))
        if profile_input:
            _profile_input(screen, plan, found, seed, precision, compile)
            return
        folder = output or Path("runs") / model
        training = plan.training(
            found, folder, seed=seed, precision=precision, compile=compile, save_every=60 * save_every,
            fresh=fresh, cluster=cluster,
        )  # fmt: skip
        run_has_begun()
    _show(screen, training, model, data, folder)
    with screen.bar(f"training {model}") as told, terminated(training.stop):

        def on_epoch(summary: dict[str, float]) -> None:
            screen.err.print(epoch_line(model, summary), markup=False)
            screen.line(summary)

        def on_step(done: int, steps: int, m: dict[str, float]) -> None:
            told(done, steps, f"epoch {training.epoch + 1}  loss {m['loss']:.4f}  rate {m['rate']:.4g}")

        try:
            result = run(
                training, found, tensorboard=tensorboard, images=images, trace=trace, on_step=on_step,
                on_epoch=on_epoch, tell=screen.tell,
            )  # fmt: skip
        except Stopped:
            screen.say(f"stopped as asked after {_reached(training)}; the same command goes on from there")
            return
    low, high = result.interval
    screen.say(f"test accuracy {result.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) of {result.count} images")
    if training.writes:
        screen.say(f"wrote {folder / 'weights.safetensors'}, {folder / 'history.json'} and {folder / 'curves.png'}")
    screen.line({"result": result.summary(), "weights": str(folder / "weights.safetensors")})


def _check_sharing(strategy, replicas, restarts, wait, profile_input: bool) -> None:
    """ValueError for an option of a way to share a run that was not asked for."""
    if replicas and strategy != "mirrored":
        raise ValueError("--replicas are those of --strategy mirrored; give it too")
    if strategy != "multiworker" and (restarts is not None or wait is not None):
        raise ValueError("--restarts and --wait are those of --strategy multiworker; give it too")
    if profile_input and strategy:
        raise ValueError("--profile-input measures one device; leave --strategy out")


def _adversary(epsilon: float | None, steps: int | None, step: float | None):
    """What attacks the images of each step; None where nothing does."""
    from rawcnn.attacks import Adversary

    if epsilon is not None:
        return Adversary(epsilon, epsilon / 4 if step is None else step, steps or 7)
    if steps is not None or step is not None:
        raise ValueError("--adversarial-steps and --adversarial-step are those of --adversarial EPSILON; give it too")
    return None


def _show(screen: Screen, training, model: str, data: str, folder: Path) -> None:
    """What a run resolved to, and where it stands."""
    r, network, cluster, adversary = training.recipe, training.network, training.cluster, training.adversary
    screen.settings(
        model=model, data=data, recipe=r.name, epochs=r.epochs, batch=r.batch, rate=r.rate, seed=training.seed
    )
    mode = training.choice.mode
    screen.settings(size=network.input_size, precision=network.precision, compile=mode, output=folder)
    if cluster:
        worker = f"{cluster.worker + 1} of {cluster.workers}"
        screen.settings(strategy=cluster.name, devices=cluster.count, worker=worker)
    if adversary:
        screen.settings(adversarial=adversary.epsilon, step=adversary.step, steps=adversary.steps)
    for damaged, why in training.damaged.items():
        screen.tell(f"left out the damaged checkpoint {damaged} ({why})")
    if training.epoch or training.at.steps:
        screen.say(f"going on after {_reached(training)}")


def _reached(training) -> str:
    steps = training.at.steps
    return f"epoch {training.epoch}" + (f" and {steps} steps" if steps else "")


def _ended_early(screen: Screen) -> None:
    """At SIGTERM: no error, which a handler of errors on the way might take for one of its own."""
    screen.say("stopped as asked before the training began")
    raise SystemExit(0)


def _profile_input(screen: Screen, plan, images, seed: int, precision: str, compile: str) -> None:
    from rawcnn.training.throughput import pace

    where = "in memory" if images.splits["train"].images is not None else "streamed"
    screen.settings(model=plan.model, data=images.name, images=where, batch=plan.recipe.batch, precision=precision)
    with screen.bar("measuring") as told:
        measured = pace(
            plan.network(images, seed, precision), plan.recipe, images,
            compile=compile, adversary=plan.adversary, progress=told,
        )  # fmt: skip
    screen.say(measured.sentence())
    screen.emit(
        {"input_images_per_second": measured.input, "step_images_per_second": measured.step, "ratio": measured.ratio}
    )
