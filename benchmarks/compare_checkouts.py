"""Whether two checkouts do the same: recipes, plans and rewritten models of every model, byte for byte.

    python benchmarks/compare_checkouts.py OLD NEW [MODEL.onnx ...]

Without models: the sample models of NEW and those of `AAREWRITE_SHARED` (default ../shared). Every model is planned
and rewritten, without proof, by every built-in recipe, and by variants of `aligned` that reach the rest of the passes.
Plans are compared by value: format 1 marked the stages at their sites, format 2 lists them; and it gave every placement
the options of all. Prints a line for each difference, and exits 1 if there is any that no known fault explains.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "before": {"placement": "before", "first_conv": True},
    "f=2": {"filter": 2},
    "f=5, edge": {"filter": 5, "pad": "edge", "first_conv": True},
    "zero": {"pad": "zero"},
    "2x2 windows": {"max_window": 2},
}
TOML = {
    "a trous": 'last_stage = "a trous"\n',
    "half before": 'strength = 0.5\nconv = "before"\nfirst_conv = true\n',
    "replaced pools": 'average_pool = "replace"\nunit_stride_max_pool = true\n',
}
MARKS = (("a trous", "action", "a trous"),)
ONLY_AFTER = ("max_window", "keep_stride", "after")  # options of one placement
FAULTS = {  # what may differ from the checkout before they were mended
    "ppocr_ch_PP-OCRv2_det_infer.onnx": "its sizes are written as -1 and were calculated with",
    "resnet_blur.onnx, a trous": "its last strided conv is a blur: nothing was done, but its cost was counted",
}


def worker(folder: str, models: list[str]) -> None:
    """Print one line of JSON for every model and recipe; runs inside a checkout."""
    import aarewrite
    from aarewrite.recipe import BUILT_IN, load_recipe

    for name in BUILT_IN:
        print(json.dumps({"key": f"recipe {name}", "recipe": load_recipe(name).to_dict()}))
    for name, text in TOML.items():
        Path(folder, f"{name}.toml").write_text(text)
    asked = {name: {"recipe": name} for name in BUILT_IN}
    asked |= OPTIONS | {name: {"recipe": f"{folder}/{name}.toml"} for name in TOML}
    for model in models:
        for name, options in asked.items():
            found: dict[str, Any] = {"key": f"{Path(model).name}, {name}"}
            try:
                result = aarewrite.rewrite(model, verify=False, **options)
                found["plan"] = normal(result.plan.to_dict())
                found["bytes"] = hashlib.sha256(result.model.SerializeToString()).hexdigest()
            except aarewrite.AarewriteError as error:
                found["error"] = str(error)
            print(json.dumps(found), flush=True)


def normal(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan's values, alike for both formats."""
    marked = {word: [e["node"] for e in plan["sites"] if e.get(key) == mark] for word, key, mark in MARKS}
    stages = {stage["do"]: stage["sites"] for stage in plan.get("stages", [])}
    plan = {key: value for key, value in plan.items() if key not in ("format", "aarewrite", "stages")}
    plan["stages"] = {word: sorted(nodes) for word, nodes in (marked | stages).items() if nodes}
    for entry in plan["sites"]:
        if not entry["scope"] and entry["node"] in plan["stages"].get("a trous", ()):
            entry |= {"action": "keep", "reason": "a trous"}
        for option in ONLY_AFTER if entry["placement"] != "after" else ():
            entry.pop(option, None)
    return plan


def measured(checkout: Path, folder: Path, models: list[str]) -> dict[str, dict[str, Any]]:
    """What a checkout does, by model and recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(folder), *models]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("key"): line for line in lines}


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Where two plain values differ, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in [*old, *(k for k in new if k not in old)]
            for d in differences(old.get(key), new.get(key), f"{at}.{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for k, pair in pairs for line in differences(*pair, f"{at}[{k}]")]
    return [] if old == new else [f"{at.lstrip('.')}: {old!r} -> {new!r}"]


def main() -> None:
    """Compare the two checkouts named on the command line."""
    if sys.argv[1:2] == ["--worker"]:
        return worker(sys.argv[2], sys.argv[3:])
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    import tempfile

    old, new = (Path(argument).resolve() for argument in sys.argv[1:3])
    shared = Path(os.environ.get("AAREWRITE_SHARED", new.parent / "shared")) / "models"
    models = [str(Path(m).resolve()) for m in sys.argv[3:]]
    models = models or [
        str(m.resolve()) for folder in (new / "sample_models", shared) for m in sorted(folder.glob("*.onnx"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        before, after = (measured(checkout, Path(folder), models) for checkout in (old, new))
    unequal = explained = 0
    for key in before:
        lines = differences(before[key], after.get(key))
        fault = next((why for name, why in FAULTS.items() if key.startswith(name)), "")
        if lines and fault:
            explained += 1
            print(f"{key}: {len(lines)} differences: {fault}")
            continue
        unequal += bool(lines)
        for line in lines[:8]:
            print(f"{key}: {line}")
    equal = len(before) - unequal - explained
    print(
        f"{equal} of {len(before)} equal, {explained} differ by a mended fault, {unequal} otherwise; "
        f"{len(models)} models"
    )
    sys.exit(1 if unequal else 0)


if __name__ == "__main__":
    main()
