"""The building blocks as pictures: colours over the image, and one sheet of all for those without a browser.

Positions of a layer are drawn as equal parts of the image. That is where they lie, though each sees more than its part.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from rawcnn.visualize.class_attribution import ranked_channels
from rawcnn.visualize.interpretability import BuildingBlocks
from rawcnn.visualize.pictures import BLUE, RED, fit, grid, picture

COVER = 0.85  # of the image where a colour is full
PALE = 0.35  # the darkest grey of an image under colours
TILE = 96  # pixels of an icon on the sheet
LINE = 14  # pixels of a line of text
LARGE = 3 * TILE  # pixels of the image on the sheet
GAP = 8


def stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map [h,w,…] as [H,W,…] of `size`: each position becomes its part of the image."""
    rows, columns = (np.arange(n) * count // n for n, count in zip(size, values.shape[:2], strict=True))
    return values[rows][:, columns]


def coloured(image: np.ndarray, colours: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """The image [H,W,3] in pale grey under colours [h,w,3] or [3], each as opaque as its amount [h,w] in [0,1] says."""
    grey = PALE + (1 - PALE) * image.mean(axis=-1, keepdims=True)  # colours must differ from its shadows
    colours = np.broadcast_to(colours, (*amounts.shape, 3))
    size = large_enough(image, amounts.shape)
    grey, colours, amounts = (stretched(v, size) for v in (grey, colours, COVER * amounts[..., None]))
    return picture((1 - amounts) * grey + amounts * colours)


def large_enough(image: np.ndarray, map_shape: Sequence[int]) -> tuple[int, int]:
    """A whole multiple of the image's size in which every position of the map has pixels."""
    times = max(-(-count // n) for n, count in zip(image.shape[:2], map_shape, strict=False))
    return times * image.shape[0], times * image.shape[1]


def effect_overlay(image: np.ndarray, effects: np.ndarray, largest: float) -> np.ndarray:
    """Effects [h,w] over the image: red for the class, blue against it, full at `largest`."""
    share = np.clip(effects / largest, -1, 1) if largest > 0 else np.zeros_like(effects)
    return coloured(image, np.where(share[..., None] > 0, RED, BLUE), np.abs(share))


def group_overlay(image: np.ndarray, maps: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Maps of groups [h,w,G], none negative, over the image, in colours [G,3] that mix as the groups do."""
    total = maps.sum(axis=-1)
    mixed = maps @ colours / np.maximum(total, np.finfo(np.float32).tiny)[..., None]
    return coloured(image, mixed, total / max(float(total.max()), np.finfo(np.float32).tiny))


def group_colours(count: int) -> np.ndarray:
    """[count,3]: colours as far apart as can be, of middle lightness."""
    return np.array([colorsys.hls_to_rgb(g / count, 0.5, 0.75) for g in range(count)], np.float32)


def mosaic(blocks: BuildingBlocks, tile: int) -> np.ndarray:
    """The icon of the strongest channel at each position, dim where it is weak; grey where there is no icon."""
    strongest, values = blocks.dictionary.channels[..., 0], blocks.dictionary.activations[..., 0]
    shares = np.sqrt(np.clip(values / max(float(values.max()), np.finfo(np.float32).tiny), 0, 1))
    none = np.full((1, 1, 3), 0.5, np.float32)
    tiles = [
        1 - share * (1 - fit(blocks.channel_icons.get(int(channel), none), tile))
        for channel, share in zip(strongest.ravel(), shares.ravel(), strict=True)
    ]
    return grid(tiles, strongest.shape[1], gap=0)


def blocks_sheet(blocks: BuildingBlocks) -> np.ndarray:
    """One picture [H,W,3] of everything.

    From above: the image, its semantic dictionary, its groups; spatial attribution of each class; for each class the
    channels for it and against it; the groups, each with its place, its icon and its effects.
    """
    colours = group_colours(blocks.groups.count)
    overlay = group_overlay(blocks.image, blocks.groups.maps, colours)
    tile = max(1, LARGE // max(blocks.dictionary.map_shape))
    top = [(blocks.image, "image"), (mosaic(blocks, tile), f"strongest channels of {blocks.layer}")]
    rows = [_row([*top, (overlay, "neuron groups")], LARGE), _spatial_row(blocks)]
    for k, sides in enumerate(ranked_channels(blocks.attribution)):
        rows += [_channel_row(blocks, k, side, word) for side, word in zip(sides, ("for", "against"), strict=True)]
    return _below([*rows, *_group_rows(blocks, colours)])


def _spatial_row(blocks: BuildingBlocks) -> np.ndarray:
    told = blocks.attribution
    largest = float(np.abs(told.spatial).max())
    cells = [
        (effect_overlay(blocks.image, effects, largest), f"class {k}, logit {logit:.3g}")
        for effects, k, logit in zip(told.spatial, told.classes, told.logits, strict=True)
    ]
    return _row(cells, LARGE)


def _channel_row(blocks: BuildingBlocks, k: int, channels: Sequence[int], word: str) -> np.ndarray:
    title = _text(f"{'channels' if channels else 'no channel is'} {word} class {blocks.attribution.classes[k]}", TILE)
    title, none = _padded(title, left=GAP), np.full((1, 1, 3), 0.5, np.float32)
    effects = blocks.attribution.channels[k]
    cells = [(blocks.channel_icons.get(c, none), f"{c}: {effects[c]:+.3g}") for c in channels]
    return _below([title, _row(cells, TILE)]) if cells else title


def _group_rows(blocks: BuildingBlocks, colours: np.ndarray) -> list[np.ndarray]:
    classes = blocks.attribution.classes
    maps = [group_overlay(blocks.image, blocks.groups.maps[..., [g]], colours[[g]]) for g in range(len(colours))]
    places = [(overlay, f"group {g + 1}") for g, overlay in enumerate(maps)]
    lines = [
        [f"class {k}: {e:+.3g}" for k, e in zip(classes, column, strict=True)] for column in blocks.group_effects.T
    ]
    icons = [(icon, *told) for icon, told in zip(blocks.group_icons, lines, strict=True)]
    return [_row(places, TILE), _row(icons, TILE)]


def _row(cells: Sequence[tuple], size: int) -> np.ndarray:
    """Cells (picture, line of text, …) side by side, each `size` wide."""
    drawn = [np.concatenate([fit(image, size), *(_text(line, size) for line in lines)]) for image, *lines in cells]
    return grid(drawn, columns=len(drawn), gap=GAP)


def _text(line: str, width: int) -> np.ndarray:
    """A line in black on white, as wide as it is and `width` at the least."""
    room = ImageDraw.Draw(Image.new("L", (1, 1))).textlength(line)
    strip = Image.new("L", (max(width, int(room) + 1), LINE), 255)
    ImageDraw.Draw(strip).text((0, 1), line, fill=0)
    return picture(np.asarray(strip, np.float32) / 255)


def _below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of any width, one below the other, on white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, right=width - row.shape[1]) for row in rows])


def _padded(image: np.ndarray, left: int = 0, right: int = 0) -> np.ndarray:
    return np.pad(image, ((0, 0), (left, right), (0, 0)), constant_values=1)
