"""Verbs about data on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import Json, SkipUnreadable

app = typer.Typer(help="Data on the disk.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def about() -> None:
    """Data on the disk."""


@app.command("pack")
def pack_folder(
    folder: Annotated[Path, typer.Argument(help="Images as {train,test}/CLASS/*, or CLASS/*.")],
    output: Annotated[Path | None, typer.Option(help="A new folder; FOLDER-records otherwise.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Shrink images whose shorter side is longer than this, to JPEG.", min=1)
    ] = None,
    shard: Annotated[int, typer.Option(help="Images a file.", min=1)] = 1024,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Pack a folder of images into TFRecords, for --data records:PATH; what was stopped goes on with the next file."""
    from rawcnn.data.folders import folder_items
    from rawcnn.data.records import pack

    screen = Screen(as_json)
    if output is None:
        whole = folder.expanduser().resolve()  # "." and ".." have no name of their own
        output = whole.with_name(f"{whole.name}-records")
    screen.settings(folder=folder, output=output, size=size, shard=shard, skip_unreadable=skip_unreadable)
    labels, items = folder_items(folder)
    with screen.bar("packing") as told:
        records = pack(labels, items, output, size=size, shard=shard, skip_unreadable=skip_unreadable, progress=told)
    counts = {split: len(shelf) for split, shelf in records.splits.items()}
    if records.skipped:
        screen.err.print(
            f"left out {len(records.skipped)} unreadable files, the first {records.skipped[0]}", markup=False
        )
    screen.say(f"packed {counts['train']:,} training and {counts['test']:,} test images of {len(labels)} classes")
    screen.say(f"train with --data records:{output}")
    screen.emit({"output": str(output), "images": counts, "classes": len(labels), "skipped": list(records.skipped)})
