"""The same model comes out with the same bytes, whatever the hash seed and the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "sample_models"
MODELS = ("conv1d", "densenet", "mobilenet", "resnet")
WRITE = """
import hashlib, sys
import aarewrite
for path in sys.argv[1:]:
    for recipe, options in (("aligned", {}), ("calibrated", {"first_conv": True}), ("aligned", {"filter": "ideal"})):
        rewritten = aarewrite.rewrite(path, recipe, verify=False, **options).rewritten
        print(path, recipe, hashlib.sha256(b"".join(rewritten.serialised())).hexdigest())
"""


def digests(seed: str, threads: str, *paths: Path) -> list[str]:
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", WRITE, *map(str, paths)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_neither_the_hash_seed_nor_threads_change_a_byte() -> None:
    paths = [SAMPLES / f"{name}.onnx" for name in MODELS]
    first = digests("0", "1", *paths)
    assert len(set(first)) == 3 * len(MODELS)
    assert digests("4242", "2", *paths) == first
