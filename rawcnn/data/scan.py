"""Which folders are classes and which files are images, and a count of what was left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rawcnn.data.decode import SUFFIXES

# What systems leave behind in folders, besides names that begin with a dot
LEFTOVERS = (
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
)
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
# Pictures that Pillow does not read, or not without other programs
PICTURES = (
    *(".heic", ".heif", ".jxl", ".svg", ".psd", ".eps", ".pam", ".ico", ".exr", ".hdr", ".dds"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)


@dataclass
class LeftOut:
    """What was left out of a data set.

    Attributes:
        endings: How many files of class folders had each other ending; "" counts those without an ending.
        loose: How many images are next to class folders instead of in one.
        folders: The names of folders that are next to those of splits.
        nested: How many images were read from subfolders of class folders. These are not left out.
        links: How many links lead nowhere.
        alike: The names of the class folders if all hold the same folders. These are not left out.
    """

    endings: Counter[str] = field(default_factory=Counter)
    loose: int = 0
    folders: list[str] = field(default_factory=list)
    nested: int = 0
    links: int = 0
    alike: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Return a sentence about each kind."""
        found = []
        if self.nested:
            found.append(f"read {self.nested:,} images from subfolders of the class folders")
        if self.alike:
            found.append(
                f"read {some_of(self.alike)} as classes, although they hold the same folders; rename them train and "
                "test if they are splits"
            )
        if self.endings:
            found.append(
                f"left out {self.endings.total():,} files whose endings are not those of images that are read: "
                f"{counted(self.endings)}"
            )
        if self.links:
            found.append(f"left out {self.links:,} links that lead nowhere")
        if self.loose:
            found.append(f"left out {self.loose:,} images that are in no class folder")
        if self.folders:
            found.append(f"left out the folders {some_of(self.folders)}, which are not splits with folders of classes")
        return found

    def pictures(self) -> Counter[str]:
        """Return the endings of pictures in other formats, which are probably missed."""
        return Counter({ending: count for ending, count in self.endings.items() if ending in PICTURES})


def counted(endings: Counter[str]) -> str:
    """Return "5 .txt, 3 without an ending", the most frequent first."""
    ranked = sorted(endings.items(), key=lambda pair: (-pair[1], pair[0]))
    texts = [f"{count:,} {ending}" if ending else f"{count:,} without an ending" for ending, count in ranked]
    return ", ".join(texts[:12]) + (", …" if len(texts) > 12 else "")


def some_of(names: Iterable[str]) -> str:
    """Return the first five names, for a message."""
    names = sorted(names)
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in the order of their names, without those that systems leave behind."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_leftover(entry.name))
    return [folder / name for name in names]


def loose_images(folder: Path) -> int:
    """Return how many images lie directly in a folder."""
    return sum(entry.is_file() and _is_image(entry.name) for entry in os.scandir(folder))


def dead_links(folder: Path) -> int:
    """Return how many links directly in a folder lead nowhere."""
    entries = [entry for entry in os.scandir(folder) if entry.is_symlink() and not _is_leftover(entry.name)]
    return sum(not os.path.exists(entry) for entry in entries)


def is_archive(name: str) -> bool:
    """Return whether a file's name is that of an archive."""
    return name.lower().endswith(ARCHIVES)


def archives(folder: Path) -> list[str]:
    """Return the names of the archives directly in a folder."""
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and is_archive(entry.name)]


def image_files(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the images of a class folder and of its subfolders, in the order of their names.

    Args:
        folder: The folder.
        left_out: Counts the files that are left out, and the images in subfolders.
    """
    found = sorted(_walk(folder, "", left_out, frozenset()))
    left_out.nested += sum(os.sep in name for name in found)
    return [folder / name for name in found]


def _walk(folder: Path, inside: str, left_out: LeftOut, above: frozenset[str]) -> list[str]:
    """The paths of images relative to the class folder. `above`: the folders around it, because links may be cyclic."""
    real = os.path.realpath(folder)
    if real in above:
        return []
    found = []
    for entry in os.scandir(folder):
        if _is_leftover(entry.name):
            continue
        name = os.path.join(inside, entry.name)
        if entry.is_dir():
            found += _walk(folder / entry.name, name, left_out, above | {real})
        elif entry.is_file():
            if _is_image(entry.name):
                found.append(name)
            else:
                left_out.endings[os.path.splitext(entry.name)[1].lower()] += 1
        elif entry.is_symlink():
            left_out.links += 1
    return found


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFTOVERS


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _is_leftover(name)
