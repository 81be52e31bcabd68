"""`rawcnn data`: prepare data sets on the disk."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import Json, SkipUnreadable
from rawcnn.cli.request import Request, begin, note_skipped

app = typer.Typer(help="Prepare data sets on the disk.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Prepare data sets on the disk."""  # without a callback, Typer would make the only command the whole app


@dataclass(frozen=True, kw_only=True)
class PackRequest(Request):
    """The options of `rawcnn data pack`."""

    folder: Path
    records: Path
    size: int | None
    shard: int
    skip_unreadable: bool

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "output": self.records,
            "size": self.size,
            "shard": self.shard,
            "skip_unreadable": self.skip_unreadable,
        }


@app.command("pack")
def pack_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of images as {train,test,val}/CLASS/* or CLASS/*.")],
    output: Annotated[Path | None, typer.Option(help="New folder to write; default: FOLDER-records.")] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Shrink images so that the shorter side has at most this many pixels; write JPEG.", min=1),
    ] = None,
    shard: Annotated[int, typer.Option(help="Number of images per file.", min=1)] = 1024,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
) -> None:
    """Pack a folder of images into TFRecord files.

    Other verbs read them with --data records:PATH. An interrupted run resumes.
    """
    if output is None:
        absolute = folder.expanduser().resolve()  # "." and ".." have no name
        output = absolute.with_name(f"{absolute.name}-records")
    request = PackRequest(
        folder=folder, records=output, size=size, shard=shard, skip_unreadable=skip_unreadable, as_json=as_json
    )
    pack_images(request)


def pack_images(request: PackRequest) -> None:
    """Write the TFRecord files and count their images."""
    from rawcnn.data.folders import folder_items
    from rawcnn.data.records import pack

    with begin(request) as run:
        notes: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notes say the same
            labels, items = folder_items(request.folder, notes=notes)
        for note in notes:
            run.screen.note(note)
        with run.screen.progress_bar("packing") as report:
            packed = pack(
                labels, items, request.records, size=request.size, shard=request.shard,
                skip_unreadable=request.skip_unreadable, progress=report,
            )  # fmt: skip
        note_skipped(run.screen, packed.skipped)
        counts = {split: len(part) for split, part in packed.splits.items()}
        kinds = {"train": "training", "test": "test", "validation": "validation"}
        packed_counts = " and ".join(f"{count:,} {kinds[split]}" for split, count in counts.items())
        run.screen.print(f"packed {packed_counts} images of {len(labels)} classes")
        if "train" in counts:
            run.screen.print(f"train on them with `rawcnn train MODEL --data records:{request.records}`")
        else:
            run.screen.print(f"evaluate them with `rawcnn evaluate MODEL --data records:{request.records}`")
        run.result = {
            "output": str(request.records),
            "images": counts,
            "classes": len(labels),
            "skipped": list(packed.skipped),
        }
