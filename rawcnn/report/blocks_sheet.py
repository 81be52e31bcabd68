"""The building blocks as pictures: colors over the image, and one picture with everything, for use without a browser.

Positions of a layer are drawn as equal parts of the image. Each position sees more of the image than its part.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from rawcnn.visualize.class_attribution import ranked_channels
from rawcnn.visualize.interpretability import BuildingBlocks
from rawcnn.visualize.pictures import BLUE, RED, fit, grid, picture

COVER = 0.85  # opacity of a full color over the image
PALE = 0.35  # darkest gray of an image under colors
TILE = 96  # pixels of an icon on the sheet
LINE = 14  # pixels of a line of text
LARGE = 3 * TILE  # pixels of the image on the sheet
GAP = 8


def stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge a map [h,w,…] to [H,W,…] of `size`. Each position becomes its part of the image."""
    rows, columns = (np.arange(n) * count // n for n, count in zip(size, values.shape[:2], strict=True))
    return values[rows][:, columns]


def colored(image: np.ndarray, colors: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Show the image [H,W,3] in pale gray under colors [h,w,3] or [3] with opacities [h,w] in [0,1]."""
    gray = PALE + (1 - PALE) * image.mean(axis=-1, keepdims=True)  # pale, so that colors differ from shadows
    colors = np.broadcast_to(colors, (*amounts.shape, 3))
    size = large_enough(image, amounts.shape)
    gray, colors, amounts = (stretched(v, size) for v in (gray, colors, COVER * amounts[..., None]))
    return picture((1 - amounts) * gray + amounts * colors)


def large_enough(image: np.ndarray, map_shape: Sequence[int]) -> tuple[int, int]:
    """Return a multiple of the image's size in which every position of the map has pixels."""
    times = max(-(-count // n) for n, count in zip(image.shape[:2], map_shape, strict=False))
    return times * image.shape[0], times * image.shape[1]


def effect_overlay(image: np.ndarray, effects: np.ndarray, largest: float) -> np.ndarray:
    """Show effects [h,w] over the image: red raises the class's logit, blue lowers it, `largest` has full color."""
    share = np.clip(effects / largest, -1, 1) if largest > 0 else np.zeros_like(effects)
    return colored(image, np.where(share[..., None] > 0, RED, BLUE), np.abs(share))


def group_overlay(image: np.ndarray, maps: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Show non-negative maps of groups [h,w,G] over the image, in colors [G,3] that mix like the groups."""
    total = maps.sum(axis=-1)
    mixed = maps @ colors / np.maximum(total, np.finfo(np.float32).tiny)[..., None]
    return colored(image, mixed, total / max(float(total.max()), np.finfo(np.float32).tiny))


def group_colors(count: int) -> np.ndarray:
    """Return colors of equal lightness with hues as different as possible, [count,3]."""
    return np.array([colorsys.hls_to_rgb(g / count, 0.5, 0.75) for g in range(count)], np.float32)


def mosaic(blocks: BuildingBlocks, tile: int) -> np.ndarray:
    """Show the strongest channel's icon at each position, paler for weaker activations, and gray without an icon."""
    strongest, values = blocks.dictionary.channels[..., 0], blocks.dictionary.activations[..., 0]
    shares = np.sqrt(np.clip(values / max(float(values.max()), np.finfo(np.float32).tiny), 0, 1))
    none = np.full((1, 1, 3), 0.5, np.float32)
    tiles = [
        1 - share * (1 - fit(blocks.channel_icons.get(int(channel), none), tile))
        for channel, share in zip(strongest.ravel(), shares.ravel(), strict=True)
    ]
    return grid(tiles, strongest.shape[1], gap=0)


def blocks_sheet(blocks: BuildingBlocks) -> np.ndarray:
    """Return one picture [H,W,3] of everything.

    The rows show: the image, its semantic dictionary and its groups; the spatial attribution of each class; the
    channels that raise and lower each class; each group's place, icon and effects.
    """
    colors = group_colors(blocks.groups.count)
    overlay = group_overlay(blocks.image, blocks.groups.maps, colors)
    tile = max(1, LARGE // max(blocks.dictionary.map_shape))
    top = [(blocks.image, "image"), (mosaic(blocks, tile), f"strongest channels of {blocks.layer}")]
    rows = [_row([*top, (overlay, "neuron groups")], LARGE), _spatial_row(blocks)]
    for k, sides in enumerate(ranked_channels(blocks.attribution)):
        rows += [_channel_row(blocks, k, side, word) for side, word in zip(sides, ("for", "against"), strict=True)]
    return _below([*rows, *_group_rows(blocks, colors)])


def _spatial_row(blocks: BuildingBlocks) -> np.ndarray:
    attribution = blocks.attribution
    largest = float(np.abs(attribution.spatial).max())
    cells = [
        (effect_overlay(blocks.image, effects, largest), f"class {k}, logit {logit:.3g}")
        for effects, k, logit in zip(attribution.spatial, attribution.classes, attribution.logits, strict=True)
    ]
    return _row(cells, LARGE)


def _channel_row(blocks: BuildingBlocks, k: int, channels: Sequence[int], word: str) -> np.ndarray:
    title = _text(f"{'channels' if channels else 'no channel is'} {word} class {blocks.attribution.classes[k]}", TILE)
    title, none = _padded(title, left=GAP), np.full((1, 1, 3), 0.5, np.float32)
    effects = blocks.attribution.channels[k]
    cells = [(blocks.channel_icons.get(c, none), f"{c}: {effects[c]:+.3g}") for c in channels]
    return _below([title, _row(cells, TILE)]) if cells else title


def _group_rows(blocks: BuildingBlocks, colors: np.ndarray) -> list[np.ndarray]:
    classes = blocks.attribution.classes
    maps = [group_overlay(blocks.image, blocks.groups.maps[..., [g]], colors[[g]]) for g in range(len(colors))]
    places = [(overlay, f"group {g + 1}") for g, overlay in enumerate(maps)]
    lines = [
        [f"class {k}: {e:+.3g}" for k, e in zip(classes, column, strict=True)] for column in blocks.group_effects.T
    ]
    icons = [(icon, *texts) for icon, texts in zip(blocks.group_icons, lines, strict=True)]
    return [_row(places, TILE), _row(icons, TILE)]


def _row(cells: Sequence[tuple], size: int) -> np.ndarray:
    """Draw cells (picture, line of text, …) in a row, each `size` pixels wide."""
    drawn = [np.concatenate([fit(image, size), *(_text(line, size) for line in lines)]) for image, *lines in cells]
    return grid(drawn, columns=len(drawn), gap=GAP)


def _text(line: str, width: int) -> np.ndarray:
    """Draw a line of text in black on white, at least `width` pixels wide."""
    room = ImageDraw.Draw(Image.new("L", (1, 1))).textlength(line)
    strip = Image.new("L", (max(width, int(room) + 1), LINE), 255)
    ImageDraw.Draw(strip).text((0, 1), line, fill=0)
    return picture(np.asarray(strip, np.float32) / 255)


def _below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Place rows of any width below each other, on white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, right=width - row.shape[1]) for row in rows])


def _padded(image: np.ndarray, left: int = 0, right: int = 0) -> np.ndarray:
    return np.pad(image, ((0, 0), (left, right), (0, 0)), constant_values=1)
