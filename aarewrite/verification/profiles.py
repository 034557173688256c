"""Decoding profiles: where in a detector's outputs its boxes, scores and keypoints lie, and how they are coded.

The built-in ones are the files in `aarewrite/profiles/`, in the very format users write their own in.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path

from aarewrite.data.arrays import Array
from aarewrite.errors import UsageError
from aarewrite.options import Table, option, read, share, whole
from aarewrite.texts import parsed, read_toml

BUILT_IN = (
    "blazeface", "fastestdet", "fcos", "nms-rows", "nms-rows-batched", "nms-tensorflow", "scrfd", "ssd", "yolov3",
    "yolov5", "yolov8", "yolox", "yunet",
)  # fmt: skip
AUTO = "auto"
# n: batch, a: a list of predictions, h and w: cells of a grid, k: predictions a cell, c: channels; letters
# in brackets share an axis, the first one outermost
LAYOUTS = ("nac", "nca", "ac", "na", "nc", "nchw", "nhwc", "n(kc)hw", "nhw(kc)", "nkchw", "nkhwc", "nhwkc")
BOX_CODES = ("corners", "corners-yx", "centre", "ssd", "offset", "distances", "yolox", "yolov3", "yolov5", "tanh")
POINT_CODES = ("points", "offset", "cells", "ssd")
UNITS = ("pixels", "relative")
COUNTS = "a list of whole numbers of 1 or more"


def rising(values: tuple[int, ...]) -> bool:
    """Whether whole numbers of 0 or more grow."""
    return sorted({-1, *values}) == [-1, *values]


@dataclass(frozen=True)
class Part:
    """Where one kind of value lies: in one output, or in one a stride, told apart by their sizes."""

    outputs: tuple[str, ...] = option(holds=bool, says="a list of names")  # or globs, any of which may fit
    layout: str = option("nac", choices=LAYOUTS)
    # First channel, and the one behind the last, by default the end; none given: all
    channels: tuple[int, ...] = option((), holds=lambda c: rising(c) and len(c) < 3, says="[from, to]")

    def reads(self, output: str) -> bool:
        """Whether it may lie in an output of that name."""
        return any(fnmatchcase(output, glob) for glob in self.outputs)


@dataclass(frozen=True)
class Boxes(Part):
    """Four values a box."""

    code: str = option("corners", choices=BOX_CODES)
    units: str = option("pixels", choices=UNITS)  # of coordinates; relative ones are shares of the input's size


@dataclass(frozen=True)
class Scores(Part):
    """One value a class, or of objectness; the score of a class is their product."""

    activation: str = option("none", choices=("none", "sigmoid", "softmax"))  # that the graph lacks
    power: float = option(1.0, holds=lambda power: power > 0, says="above 0")
    background: int | None = whole(None)  # the class that stands for nothing
    distribution: bool = False  # each prediction's scores have to sum to 1


@dataclass(frozen=True)
class Points(Part):
    """Keypoints, `step` values each, of which the first two are x and y."""

    code: str = option("points", choices=POINT_CODES)
    units: str = option("pixels", choices=UNITS)
    step: int = option(2, holds=lambda step: step >= 2, says="2 or more")


@dataclass(frozen=True)
class Profile:
    """How one family of detectors is decoded."""

    name: str
    scores: Scores | None = None  # of classes; None: a single detection that is always there
    objectness: Scores | None = None
    classes: Part | None = None  # numbers of classes, where scores are one a row; None: the highest score says it
    boxes: Boxes | None = None  # None: the box around the keypoints
    keypoints: Points | None = None
    strides: tuple[int, ...] = option((), holds=lambda s: min(s, default=1) > 0, says=COUNTS)  # of the grids, px
    # Predictions a cell, one number for all grids or one a grid
    per_cell: tuple[int, ...] = option((1,), holds=lambda k: min(k, default=0) > 0, says=COUNTS)
    # Widths and heights, px, of each grid's anchors, for codes that need them
    anchors: tuple[tuple[tuple[float, ...], ...], ...] = ()
    offset: float = 0.0  # of a cell's reference point from its corner, cells
    variances: tuple[float, ...] = option((0.1, 0.2), holds=lambda v: len(v) == 2, says="two numbers")
    threshold: float = share(0.5)  # scores below are no detections
    nms: float = option(0.45, holds=lambda v: 0 <= v <= 1, says="0 to 1")  # largest IoU in a class; 1: all are kept

    @property
    def parts(self) -> dict[str, Part]:
        """Its parts by key."""
        keys = ("scores", "objectness", "classes", "boxes", "keypoints")
        found = {key: getattr(self, key) for key in keys}
        return {key: part for key, part in found.items() if part is not None}

    def read_of(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Those of a model's outputs that it may read."""
        return {name: a for name, a in outputs.items() if any(part.reads(name) for part in self.parts.values())}

    @property
    def unbatched(self) -> bool:
        """Whether an output has no batch axis: pictures have to be shown one by one."""
        return any("n" not in part.layout for part in self.parts.values())


def load_profile(name_or_file: str) -> Profile:
    """A built-in profile by name, or one's own from a TOML file.

    Raises:
        UsageError: There is no such profile or file, or the file is not valid; the message says where.
    """
    if name_or_file in BUILT_IN:
        text = resources.files("aarewrite").joinpath(f"profiles/{name_or_file}.toml").read_text("utf-8")
        return parse_profile(text, name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        choices = f"{AUTO}, {', '.join(BUILT_IN)} or a TOML file"
        raise UsageError(f"--decode {name_or_file}: no such profile", f"use {choices}")
    return _profile(read_toml(path), path.stem)


def parse_profile(text: str, name: str) -> Profile:
    """Parse a profile's TOML; `name` is used where the text gives none.

    Raises:
        UsageError: The text is not TOML, has an unknown key or a wrong value, or lacks what its codes need.
    """
    return _profile(typing.cast(Table, parsed(text, tomllib.loads, "TOML", f"profile {name}")), name)


def _profile(table: Table, name: str) -> Profile:
    where = f"profile {name}"
    kinds = {"scores": Scores, "objectness": Scores, "classes": Part, "boxes": Boxes, "keypoints": Points}
    parts = {key: read(kind, table[key], f"{where}: [{key}]") for key, kind in kinds.items() if key in table}
    rest: Table = {"name": name} | {key: value for key, value in table.items() if key not in parts}
    profile = read(Profile, rest, where, also=tuple(kinds), **parts)
    if reason := _lacks(profile):
        raise UsageError(f"{where}: {reason}")
    return profile


def _lacks(profile: Profile) -> str:
    """What a profile needs and does not say; empty where it is complete."""
    if profile.boxes is None and profile.keypoints is None:
        return "neither [boxes] nor [keypoints]; write what to decode"
    codes = [part.code for part in (profile.boxes, profile.keypoints) if part is not None]
    on_grid = [code for code in codes if code not in ("corners", "corners-yx", "centre", "points")]
    if on_grid and not profile.strides:
        return f"code {on_grid[0]!r} needs strides; write strides = [8, 16, 32]"
    sized = [code for code in codes if code in ("ssd", "yolov3", "yolov5")]
    if sized and len(profile.anchors) != len(profile.strides):
        return f"code {sized[0]!r} needs anchors, a list of [width, height] a stride"
    if any(len(anchor) != 2 for grid in profile.anchors for anchor in grid):
        return "an anchor is [width, height]"
    if len(profile.per_cell) not in (1, len(profile.strides) or 1):
        return "per_cell has one number, or one a stride"
    if not profile.strides and any("h" in part.layout for part in profile.parts.values()):
        return "a grid needs strides; write strides = [8, 16, 32]"
    return ""
