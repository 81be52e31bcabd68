"""Which folder of a data set is which split, by its name."""

from __future__ import annotations

import re
from pathlib import Path

from rawcnn.data.scan import LeftOut, loose_images, subfolders

# Names of the folders of splits, in any case, also with an ending such as _set or _images
FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "evaluation"),
    "validation": ("val", "valid", "validation", "dev"),
}
# Words that stand for a split where the folders around it show that it is one: a class may be called so, too
WORDS = {
    "train": (*FOLDERS["train"], "trn"),
    "test": (*FOLDERS["test"], "tests", "tst", "eval", "holdout"),
    "validation": (*FOLDERS["validation"], "validate", "devel", "development"),
}
# Words next to them: seg_train, images_test, ILSVRC2012_img_val
FILLERS = {
    *("set", "image", "images", "img", "imgs", "data", "dataset", "split", "folder", "photo", "photos", "pic", "pics"),
    *("seg", "ilsvrc", "my", "final", "new", "raw", "resized", "cropped", "jpg", "jpeg", "png"),
}


def split_named(folder: str) -> str | None:
    """Return the split that a folder's name stands for: "train" for "Training_Set"; None if it is another name."""
    plain = re.sub(r"[ _-]?(set|images|data|dataset|split)$", "", folder.casefold())
    return next((split for split, names in FOLDERS.items() if plain in names), None)


def split_meant(folder: str) -> str | None:
    """Return the split that a folder's name may stand for: "train" for "train2017" and "seg_train"; None for none."""
    if split := split_named(folder):
        return split
    words = re.findall(r"[^\W\d_]+", re.sub(r"hold[ _-]out", "holdout", folder.casefold()))
    found = [split for split, names in WORDS.items() for word in words if word in names]
    others = [word for word in words if not any(word in names for names in WORDS.values())]
    return found[0] if len(found) == 1 and FILLERS.issuperset(others) else None


def split_folders(root: Path, left_out: LeftOut) -> dict[str, Path]:
    """Return the folder of each split; {"train": root} if the classes are directly in `root`.

    Raises:
        ValueError: Two folders have a name of the same split, or folders of splits have no folders of classes.
    """
    folders = subfolders(root)
    named = [folder for folder in folders if split_named(folder.name)]
    # With images directly in it, it is a class of this name, unless it has several folders and others are splits, too
    holders = [folder for folder in named if not loose_images(folder)]
    mixed = [folder for folder in named if folder not in holders and len(subfolders(folder)) > 1]
    if holders or len(mixed) > 1:
        holders += mixed
    elif len(named) == len(folders) > 1:
        names = " and ".join(folder.name for folder in named)
        raise ValueError(f"{root} has images directly in {names}; expected a folder of images for each class in each")
    holders += _meant(folders, holders)
    found: dict[str, Path] = {}
    for folder in holders:
        split = split_meant(folder.name) or ""
        if split in found:
            both = f"{found[split].name} and {folder.name}"
            raise ValueError(f"{root} has two {split} folders, {both}; rename or move one of them")
        found[split] = folder
    if not found:
        left_out.alike += _alike(folders)
        return {"train": root}
    left_out.folders += [folder.name for folder in folders if folder not in holders]
    return {split: innermost(found[split]) for split in FOLDERS if split in found}


def _meant(folders: list[Path], holders: list[Path]) -> list[Path]:
    """Return further folders of splits: the only folder, or one that has two classes of another split's folder."""
    splits = {folder: split_meant(folder.name) for folder in folders if not loose_images(folder)}
    taken = {splits.get(folder) for folder in holders}
    classes = {folder: {sub.name for sub in subfolders(innermost(folder))} for folder, split in splits.items() if split}

    def is_split(folder: Path) -> bool:
        others = [other for other in classes if splits[other] != splits[folder]]
        return len(folders) == 1 or any(len(classes[folder] & classes[other]) > 1 for other in others)

    free = [folder for folder in classes if folder not in holders and splits[folder] not in taken]
    return [folder for folder in free if is_split(folder)]


def _alike(folders: list[Path]) -> list[str]:
    """Return the names of the folders if all hold the same folders instead of images, as splits do; otherwise []."""
    if len(folders) < 2 or any(loose_images(folder) for folder in folders):
        return []
    inside = [[sub.name for sub in subfolders(folder)] for folder in folders]
    same = len(inside[0]) > 1 and all(names == inside[0] for names in inside)
    return [folder.name for folder in folders] if same else []


def innermost(folder: Path) -> Path:
    """Return the folder that holds several folders: `folder`, or the one that it holds alone, and so on."""
    while len(inside := subfolders(folder)) == 1 and not loose_images(folder) and subfolders(inside[0]):
        folder = inside[0]
    return folder
