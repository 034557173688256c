"""Preprocessing as files say it: our own TOML, and what models bring along from a hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from aarewrite.data.preprocess import PRESETS, Preprocess
from aarewrite.errors import UsageError
from aarewrite.options import read
from aarewrite.texts import read_json, read_toml

HUB_FILES = ("preprocessor_config.json", "config.json")
FILTERS = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))  # by Pillow's numbers


def load_preprocess(choice: str) -> Preprocess:
    """Return a preset by name, or the one that a file describes: TOML, or a model's `.json` as hubs have it.

    The TOML's keys are the fields of `Preprocess`, all optional; `preset` names the one to start from. The JSON is a
    `preprocessor_config.json` (or the folder with it), or timm's `config.json`.

    Raises:
        UsageError: An unknown preset, a file that is missing or malformed, an unknown key or a bad value.
    """
    if choice in PRESETS:
        return PRESETS[choice]
    if Path(choice).is_dir() or choice.endswith(".json"):
        return _of_hub(Path(choice))
    if not choice.endswith(".toml"):
        known = ", ".join(PRESETS)
        raise UsageError(f"--preprocess {choice}: no such preset", f"use one of {known}, a .toml or a .json file")
    table = read_toml(Path(choice))
    preset = PRESETS.get(str(table.get("preset", "raw255")))
    if preset is None:
        raise UsageError(f"{choice}: preset {table['preset']!r} does not exist", f"use one of {', '.join(PRESETS)}")
    for key in ("mean", "std"):
        if key in table and not isinstance(table[key], list):
            table[key] = [table[key]]
    own: dict[str, object] = {"name": choice, "apply": True}
    for key in own.keys() & table.keys():
        raise UsageError(f"{choice}: unknown key {key!r}", "remove it")
    start = {field.name: getattr(preset, field.name) for field in fields(Preprocess)}
    return read(Preprocess, start | table, choice, also=("preset",), **own)


def _of_hub(path: Path) -> Preprocess:
    """What a `preprocessor_config.json` of Transformers or a `config.json` of timm says, be it the file or its folder.

    Images are always resized to cover the canvas that crops are cut from, so that of its sizes only that of the crop
    is taken, and only where the model leaves its size open.
    """
    if path.is_dir():
        path = next((path / name for name in HUB_FILES if (path / name).is_file()), path / HUB_FILES[0])
    table = read_json(path, "name a preprocessor_config.json")
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: not a table", "name a preprocessor_config.json")
    table = table.get("pretrained_cfg") or table
    if "image_mean" in table or "do_normalize" in table:
        found = _transformers(table)
    elif {"mean", "std"} <= table.keys():
        found = {
            "mean": table["mean"], "std": table["std"], "scale": 1 / 255, "interpolation": table.get("interpolation"),
            "size": _side(table.get("input_size")),
        }  # fmt: skip
    else:
        raise UsageError(f"{path}: no image_mean and no mean in it", "name the preprocessor_config.json of the model")
    told = {key: value for key, value in found.items() if value is not None}
    return read(Preprocess, told, str(path), name=str(path))


def _transformers(table: Mapping[str, object]) -> dict[str, object]:
    normal, cropped = table.get("do_normalize", True), table.get("do_center_crop", True)
    resample = table.get("resample")
    return {
        "mean": table.get("image_mean") if normal else None,
        "std": table.get("image_std") if normal else None,
        "scale": table.get("rescale_factor", 1 / 255) if table.get("do_rescale", True) else 1.0,
        "interpolation": FILTERS.get(resample, resample) if isinstance(resample, int) else resample,
        "channels": "bgr" if table.get("do_flip_channel_order") else "rgb",
        "size": (_side(table.get("crop_size")) if cropped else None) or _side(table.get("size")),
    }


def _side(size: object) -> int | None:
    """One number for the sides of an input, None where it says none."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list):
        size = size[-1]
    return size if isinstance(size, int) and not isinstance(size, bool) else None
