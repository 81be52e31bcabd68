"""Verbs that train networks and use them: train, evaluate, predict."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Data,
    Ensemble,
    Json,
    Labels,
    Model,
    Options,
    Precision,
    Recipe,
    Seed,
    Size,
    SkipUnreadable,
    Weights,
    check_finite,
    epoch_line,
    load_data,
    network_for,
    settings_of,
    whole_numbers,
    writable,
)
from rawcnn.console import Screen, terminated


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
    fresh: Annotated[bool, typer.Option(help="Start over where the folder holds checkpoints.")] = False,
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
    from rawcnn.attacks import Adversary
    from rawcnn.distribute import cluster_of
    from rawcnn.runs import prepare, run
    from rawcnn.supervise import all_are_here, watch_over, watched
    from rawcnn.train import Stopped

    screen = Screen(as_json)
    if replicas and strategy != "mirrored":
        raise ValueError("--replicas are those of --strategy mirrored; give it too")
    if strategy != "multiworker" and (restarts is not None or wait is not None):
        raise ValueError("--restarts and --wait are those of --strategy multiworker; give it too")
    if profile_input and strategy:
        raise ValueError("--profile-input measures one device; leave --strategy out")
    check_finite(rate=rate, adversarial=adversarial, wait=wait, save_every=save_every, memory=memory)
    check_finite(adversarial_step=adversarial_step)
    if strategy == "multiworker" and not watched():
        restarts, wait = 10 if restarts is None else restarts, 10.0 if wait is None else wait
        raise typer.Exit(watch_over(restarts, 60 * wait, screen.tell))
    adversary = None
    if adversarial is not None:
        step = adversarial / 4 if adversarial_step is None else adversarial_step
        adversary = Adversary(adversarial, step, adversarial_steps or 7)
    elif adversarial_steps is not None or adversarial_step is not None:
        raise ValueError("--adversarial-steps and --adversarial-step are those of --adversarial EPSILON; give it too")
    with terminated(partial(_ended_early, screen)):
        plan = prepare(
            model, data, recipe, epochs=epochs, batch=batch, rate=rate, size=size, options=settings_of(option),
            adversary=adversary,
        )  # fmt: skip
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
    r = training.recipe
    screen.settings(model=model, data=data, recipe=r.name, epochs=r.epochs, batch=r.batch, rate=r.rate, seed=seed)
    screen.settings(size=training.network.input_size, precision=precision, compile=training.choice.mode, output=folder)
    if cluster:
        screen.settings(strategy=strategy, devices=cluster.count, worker=f"{cluster.worker + 1} of {cluster.workers}")
    if adversary:
        screen.settings(adversarial=adversary.epsilon, step=adversary.step, steps=adversary.steps)
    for damaged in training.damaged:
        screen.err.print(f"left out the damaged checkpoint {damaged}", markup=False)
    if training.epoch or training.at.steps:
        screen.say(f"going on after epoch {training.epoch}" + _and_steps(training.at.steps))
    with screen.bar(f"training {model}") as told, terminated(training.stop):

        def on_epoch(summary: dict[str, float]) -> None:
            screen.err.print(epoch_line(model, summary), markup=False)
            screen.line(summary)

        def on_step(done: int, steps: int, m: dict[str, float]) -> None:
            told(done, steps, f"epoch {training.epoch + 1}  loss {m['loss']:.4f}  rate {m['rate']:.4g}")

        try:
            result = run(
                training, found, tensorboard=tensorboard, images=images, trace=trace, on_step=on_step, on_epoch=on_epoch
            )
        except Stopped:
            done = f"epoch {training.epoch}" + _and_steps(training.at.steps)
            screen.say(f"stopped as asked after {done}; the same command goes on from there")
            return
    low, high = result.interval
    screen.say(f"test accuracy {result.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) of {result.count} images")
    if training.writes:
        screen.say(f"wrote {folder / 'weights.safetensors'}, {folder / 'history.json'} and {folder / 'curves.png'}")
    screen.line({"result": result.summary(), "weights": str(folder / "weights.safetensors")})


def _ended_early(screen: Screen) -> None:
    """At SIGTERM: no error, which a handler of errors on the way might take for one of its own."""
    screen.say("stopped as asked before the training began")
    raise SystemExit(0)


def _profile_input(screen: Screen, plan, images, seed: int, precision: str, compile: str) -> None:
    from rawcnn.pace import pace

    where = "in memory" if images.splits["train"].images is not None else "streamed"
    screen.settings(model=plan.model, data=images.name, images=where, batch=plan.recipe.batch, precision=precision)
    with screen.bar("measuring") as told:
        measured = pace(plan.network(images, seed, precision), plan.recipe, images, compile=compile, progress=told)
    screen.say(measured.sentence())
    screen.emit(
        {"input_images_per_second": measured.input, "step_images_per_second": measured.step, "ratio": measured.ratio}
    )


def _and_steps(steps: int) -> str:
    return f" and {steps} steps" if steps else ""


def evaluate(
    model: Model,
    data: Data,
    weights: Ensemble = None,
    protocol: Annotated[
        str, typer.Option(help="Where to look: whole, center, 10crop, dense, multiscale or 144crop.")
    ] = "whole",
    scales: Annotated[str | None, typer.Option(help="Shorter sides, as 256,384; the paper's otherwise.")] = None,
    batch: Batch = 256,
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    output: Annotated[
        Path | None,
        typer.Option(help="A file for predictions, batch by batch; the same command goes on there."),
    ] = None,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Top-1 and top-5 error of a network, or of an ensemble, on a data set."""
    from rawcnn.evaluate import evaluate as evaluate_network
    from rawcnn.journal import Journal, digest_of
    from rawcnn.protocols import evaluate_views, scales_for

    screen = Screen(as_json)
    writable(output)
    build = partial(network_for, model, classes=classes, size=size, seed=seed, precision=precision, options=option)
    networks = [build(file) for file in weights] if weights else [build(None)]
    first, sides = networks[0], whole_numbers("--scales", scales)
    shown = ",".join(map(str, scales_for(first, protocol, sides)))
    files = ", ".join(map(str, weights)) if weights else "random"
    screen.settings(model=model, data=data, weights=files, split=split, batch=batch, seed=seed)
    screen.settings(size=first.input_size, classes=first.classes, precision=precision, compile=compile)
    screen.settings(protocol=protocol, scales=shown or None)
    images = load_data(screen, data, first.input_size, skip_unreadable)
    journal = None
    if output:
        about = {"networks": [digest_of(n) for n in networks], "data": images.digest(split), "split": split}
        journal = Journal(output, {**about, "protocol": protocol, "scales": shown, "batch": batch, "compile": compile})
        if journal.rows:
            screen.say(f"going on after {sum(len(row['labels']) for row in journal.rows)} images of {output}")
    with screen.bar("evaluating") as told:
        if protocol == "whole" and len(networks) == 1:
            result = evaluate_network(
                first, images, split, batch=batch, compile=compile, journal=journal, progress=told
            )
        else:
            look = partial(evaluate_views, protocol=protocol, scales=sides, batch=batch, compile=compile)
            result = look(networks, images, split, journal=journal, progress=told)
    screen.say(result.sentence())
    screen.emit({"protocol": protocol, "networks": len(networks), **result.summary()})


def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    weights: Weights = None,
    labels: Labels = None,
    top: Annotated[int, typer.Option(help="How many classes to show.", min=1)] = 5,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The classes that a network sees in image files."""
    from rawcnn.labels import read_labels
    from rawcnn.predict import predict as predict_images

    screen = Screen(as_json)
    network = network_for(model, weights, classes=classes, size=size, seed=seed, options=option)
    shown = {"size": network.input_size, "classes": network.classes, "seed": seed}
    screen.settings(model=model, weights=weights or "random", labels=labels, **shown)
    if labels:
        network.labels = read_labels(labels)
    unreadable: list[str] = []
    with screen.bar("predicting") as told:
        results = predict_images(network, images, top=top, unreadable=unreadable, progress=told)
    for result in results:
        rows = [(g["label"], f"{g['probability']:.2%}") for g in result["guesses"]]
        screen.table(result["file"], ("class", "probability"), rows, text=("class",))
    screen.emit(results)
    if unreadable:
        raise ValueError("; ".join(unreadable))
