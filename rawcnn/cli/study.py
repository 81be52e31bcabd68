"""Verbs that study networks without training data: models, profile, paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.console import Screen, number
from rawcnn.cli.options import (
    PICTURES,
    Batch,
    Classes,
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
    epoch_line,
    load_data,
    settings_of,
    writable,
)


def models(as_json: Json = False) -> None:
    """List the models: parameters, MACs, receptive field, the paper."""
    from rawcnn.models import MODELS
    from rawcnn.profiling.costs import profile

    screen, rows = Screen(as_json), []
    with screen.bar("profiling") as told:
        for done, (name, model) in enumerate(MODELS.items(), start=1):
            totals = profile(name).totals
            rows.append({"name": name, "size": model.size, "paper": model.paper, "options": model.options, **totals})
            told(done, len(MODELS), name)
    columns = ("model", "image", "parameters", "MACs", "receptive field", "paper")
    cells = [
        (r["name"], r["size"], r["parameters"], number(r["macs"]), r["receptive_field"] or "image", r["paper"])
        for r in rows
    ]
    screen.table("", columns, cells, text=("model", "paper"))
    screen.emit(rows)


def profile(
    model: Model,
    size: Size = None,
    batch: Batch = 1,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    measure: Annotated[bool, typer.Option(help="Time every layer on this machine.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the roofline to this file (measures).")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Parameters, MACs, FLOPs, memory, receptive field and intensity, layer by layer."""
    from rawcnn.profiling.costs import profile as profile_model

    screen = Screen(as_json)
    writable(plot, *PICTURES)
    writable(csv)
    if compile != "auto" and not (measure or plot):
        raise ValueError("--compile says how layers run that are measured; give --measure or --plot, too")
    result = profile_model(model, batch, size, classes=classes, precision=precision, **settings_of(option))
    screen.settings(
        model=model, size=result.size, batch=batch, classes=classes, precision=precision, **settings_of(option)
    )
    timings, measurement = {}, None
    if measure or plot:
        from rawcnn.profiling.roofline import measure as measure_layers

        with screen.bar("measuring layers") as told:
            measurement = measure_layers(result, compile=compile, progress=told)
        timings = {timing.name: timing for timing in measurement.timings}
    columns = list(_PROFILE_COLUMNS) + (["ms", "share", "GFLOP/s", "GB/s", "limit", "reached"] if measurement else [])
    cells = []
    for row in result.rows:
        shape = "×".join(map(str, row["output_shape"]))
        flops = [number(row[key]) for key in ("macs", "flops_forward", "flops_backward")]
        memory = f"{row['activation_bytes'] / 2**20:.2f} MiB"
        cell = [row["name"], row["kind"], shape, row["parameters"], *flops, memory]
        cell += [row["receptive_field"] or "image", row["stride"], f"{row['intensity']:.1f}"]
        if timing := timings.get(row["name"]):
            reached = f"{timing.reached:.0%}" if timing.resolved else "–"
            both = timing.flops_per_second, timing.bytes_per_second
            rates = [f"{rate / 1e9:.1f}" if timing.resolved else "–" for rate in both]
            cell += [f"{timing.seconds * 1e3:.3f}", f"{timing.share:.1%}", *rates, timing.limit, reached]
        cells.append(cell)
    screen.table(model, columns, cells, text=("layer", "kind", "output"))
    t = result.totals
    field = f"{t['receptive_field']} px" if t["receptive_field"] else "the whole image"
    screen.say("MACs are multiply-adds of convolutions and dense layers; FLOPs are two a MAC, and all elementwise work")
    screen.say(
        f"total: {t['parameters']:,} parameters ({t['non_trainable']:,} more not trained), {t['macs']:,} MACs, "
        f"{number(t['flops_forward'])}FLOP forward, {number(t['flops_backward'])}FLOP backward, activations "
        f"{t['activation_bytes'] / 2**20:.1f} MiB, variables {t['parameter_bytes'] / 2**20:.1f} MiB, receptive field "
        f"{field}, stride {t['stride']}"
    )
    if measurement:
        machine = measurement.machine
        screen.say(
            f"this machine: {machine.flops_per_second / 1e9:.0f} GFLOP/s matmul, "
            f"{machine.bytes_per_second / 1e9:.1f} GB/s memory; a call costs "
            f"{measurement.call * 1e6:.0f} µs, which is taken off; a layer that takes less has no rate (–)"
        )
        screen.say(f"layers run as {measurement.choice.mode}: {measurement.choice.reason}")
        screen.say(f"oneDNN, TensorFlow's library of fast CPU kernels, is {'on' if measurement.onednn else 'off'}")
        screen.say(
            "each layer was timed alone with its inputs in memory: what the whole network fuses or overlaps is not seen"
        )
        five = [
            (
                x.name + (f" and {many - 1} alike" if many > 1 else ""), f"{many * x.seconds * 1e3:.2f}",
                f"{many * x.share:.0%}", x.limit, f"{x.reached:.0%}", x.reason,
            )
            for x, many in measurement.slowest()
        ]  # fmt: skip
        why = ("layers", "ms", "share", "limit", "reached", "why")
        screen.table("the slowest five, equal ones together", why, five, text=("layers", "limit", "why"))
    if measurement and plot:
        from rawcnn.plots import figures as plots

        plots.save(plots.roofline(result, measurement), plot)
        screen.say(f"wrote {plot}")
    if csv:
        csv.write_text(result.to_csv())
    screen.emit({**result.to_dict(), **({"measured": measurement.to_dict()} if measurement else {})})


_PROFILE_COLUMNS = (
    *("layer", "kind", "output", "parameters", "MACs", "forward FLOPs", "backward FLOPs", "memory", "field", "stride"),
    "FLOP/byte",
)


def paper(
    name: Annotated[str, typer.Argument(help="alexnet, vgg, googlenet, resnet, inception, resnext, senet or nasnet.")],
    train: Annotated[bool, typer.Option(help="ResNet: train plain and residual networks and compare them.")] = False,
    data: Data = "digits",
    epochs: Annotated[int | None, typer.Option(help="Epochs of each run; the recipe's otherwise.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    recipe: Recipe = None,
    size: Size = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs and the plot.")] = Path("runs/depth"),
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The paper's printed table beside what the code counts, each difference explained."""
    from rawcnn.papers import compare

    screen = Screen(as_json)
    comparison = compare(name)
    if not train:
        title = f"{comparison.title} ({comparison.source})"
        screen.table(title, comparison.columns, comparison.rows, text=_PAPER_TEXT)
        for note in comparison.notes:
            screen.say(f"• {note}")
        return screen.emit(comparison.to_dict())
    if name != "resnet":
        raise ValueError(
            f"--train repeats the ResNet paper's experiment, {name} has none; use rawcnn paper resnet --train"
        )
    from rawcnn.plots.figures import depth_curves, save
    from rawcnn.training.plain_vs_residual import compare_depths, verdict
    from rawcnn.training.recipes import find

    chosen = find(recipe or "resnet2015_cifar")
    changes: dict[str, Any] = {"epochs": epochs, "batch": batch}
    chosen = replace(chosen, **{key: value for key, value in changes.items() if value is not None})
    writable(output / "depth.png")
    images = load_data(screen, data, size, skip_unreadable)
    screen.settings(data=data, recipe=recipe, epochs=chosen.epochs, batch=chosen.batch, size=images.size[0], seed=seed)
    screen.settings(compile=compile, output=output)
    with screen.bar("training") as told:
        histories = compare_depths(
            images,
            recipe=chosen,
            seed=seed,
            folder=output,
            compile=compile,
            on_step=lambda network, done, steps, m: told(done, steps, f"{network}  loss {m['loss']:.3f}"),
            on_epoch=lambda network, summary: screen.err.print(epoch_line(network, summary), markup=False),
        )
    save(depth_curves(histories), output / "depth.png")
    (output / "depth.json").write_text(json.dumps(histories, indent=1))
    rows = [
        (n, f"{100 * (1 - h[-1]['train_accuracy']):.2f} %", f"{100 * (1 - h[-1]['test_accuracy']):.2f} %")
        for n, h in histories.items()
    ]
    screen.table("after the last epoch", ("network", "training error", "test error"), rows, text=("network",))
    screen.say(verdict(histories))
    screen.say(f"wrote {output / 'depth.png'} and {output / 'depth.json'}")
    screen.emit({"histories": histories, "verdict": verdict(histories)})


_PAPER_TEXT = ("row", "quantity", "explanation")
