"""Coverage-guided fuzzing of load, plan, rewrite with its proof, and verify, with atheris (`pip install atheris`).

    python benchmarks/fuzz_guided.py FOLDER ... [--minutes 65] [--keep DIR]

The mutations are those of `fuzz.py`, of parsed models, and now and then libFuzzer's own, of bytes; what reaches new
branches of aarewrite is mutated further. Seeds are the folders' small models and onnx's own tests of operators that
sample. Recipe, target and protocol follow from a file's checksum, so that a kept file says it all. An exception that is
none of aarewrite's own, more than 10 seconds of the processor or more than 2 GB are findings; where the process dies of
one, another goes on from the corpus. A model that is so large that ONNX Runtime alone takes a good part of that for one
run of it, or of its rewritten version, is weighed against that: more than four times as much is a finding. Models
whose views have more than a million elements are not verified: every shift of them is work for a second. Prints the
inputs, the processor's minutes, the branches reached and the outcomes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import math
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from mutations import mutant

LONGEST, MOST = 20.0, 2048  # seconds of the processor, of which counting branches takes half; MB
LARGEST = 1 << 16  # bytes of a model that is mutated
STUCK = 600  # seconds after which libFuzzer gives a call up that Python's signals do not reach
RUNS = 20_000  # of one process
TIMES = 4  # what one run of the model alone takes: the proof compares several, and verify has one a core
LARGEST_VIEW = 1 << 20  # elements
RAW = 0.1  # of the mutations are of bytes
RECIPES = ("aligned", "aligned", "zhang2019", "zhang2019-resnet", "timm", "composer")
TARGETS = (None, None, "tensorrt", "ort-cpu", "ort-cuda", "openvino", "coreml")
SAMPLING = (
    "conv", "pool", "resize", "slice", "pad", "gather", "reshape", "if", "loop", "scan", "depthtospace", "quantize",
    "function",
)  # fmt: skip
TASKS = (None, None, "classify", "dense", "depth", "image", "segment", "detect", "embed", "metric", "vector")
PROTOCOLS = ("crop", "circular", "fractional", "camera")


class _TooLong(BaseException):
    """No Exception: nobody but the fuzzer catches it."""


def options(data: bytes) -> dict[str, object]:
    """What `fuzz.outcome` is asked with a file, by its checksum."""
    chosen = zlib.crc32(data)
    return {
        "verified": chosen % 3 == 0 and _largest_input(data) <= LARGEST_VIEW,
        "recipe": RECIPES[chosen // 3 % len(RECIPES)],
        "target": TARGETS[chosen // 32 % len(TARGETS)],
        "first_conv": chosen // 256 % 2 == 0,
        "protocol": PROTOCOLS[chosen // 512 % len(PROTOCOLS)],
        "task": TASKS[chosen // 4096 % len(TASKS)],
    }


def _largest_input(data: bytes) -> int:
    """How many elements the largest input has; of what is no model 0."""
    import onnx

    with contextlib.suppress(Exception):
        inputs = onnx.load_model_from_string(data).graph.input
        return max(math.prod(max(1, dim.dim_value) for dim in one.type.tensor_type.shape.dim) for one in inputs)
    return 0


def seeds(folders: list[Path]) -> Iterator[bytes]:
    """Small models of the folders and of onnx's tests of what samples."""
    from backend_nodes import node_models

    for folder in folders:
        for file in sorted(folder.rglob("*.onnx")):
            if file.stat().st_size <= LARGEST:
                yield file.read_bytes()
    for name, model in node_models():
        if any(part in name for part in SAMPLING) and model.ByteSize() < 4096:
            yield model.SerializeToString()


def _fuzz(keep: Path, arguments: list[str]) -> None:
    """The process that fuzzes: libFuzzer never returns."""
    import atheris

    with atheris.instrument_imports(include=["aarewrite"]):
        from fuzz import outcome

        import aarewrite.rewriting.pipeline
        import aarewrite.verification  # noqa: F401

    counts: collections.Counter[str] = collections.Counter()
    number = len(list(keep.glob("counts-*")))
    path = keep / "mutant.onnx"

    def too_long(*_: object) -> None:
        raise _TooLong

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        try:
            changed = mutant(data, seed, most=2, torn=0.05) if seed % 1000 >= RAW * 1000 else b""
        except Exception:  # a mutant of mutants need not be a model any more
            changed = b""
        return changed if 0 < len(changed) <= largest else bytes(atheris.Mutate(data, largest))

    def target(data: bytes) -> None:
        path.write_bytes(data)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            said = outcome(path, **options(data))
        except _TooLong as error:
            said = f"FINDING over {LONGEST:g} s at {_place(error)}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if time.process_time() - began > LONGEST and not said.startswith("FINDING"):
            said = f"FINDING over {LONGEST:g} s"
        counts[said] += 1
        if (said.startswith("FINDING") or said == "a check failed") and counts[said] <= 5:
            name = f"{'failed' if said == 'a check failed' else 'finding'}-{zlib.crc32(data):08x}.onnx"
            (keep / name).write_bytes(data)
            print(f"\n{name}: {said}", flush=True)
        if counts.total() % 20 == 0:
            record = {"counts": counts, "processor": time.process_time()}
            (keep / f"counts-{number}.json").write_text(json.dumps(record))

    signal.signal(signal.SIGPROF, too_long)
    atheris.Setup([sys.argv[0], *arguments], target, custom_mutator=mutate)
    atheris.Fuzz()


def _peak(how: str, file: Path) -> int:
    """MB that a process of its own takes with a file."""
    ended = subprocess.run([sys.executable, sys.argv[0], "--weigh", how, str(file)], capture_output=True, text=True)
    return int(ended.stdout.split()[-1])


def _weigh(how: str, file: Path) -> None:
    """Print how many MB rewriting and verifying a file take, or running it and what becomes of it alone, at the sizes
    that the proof takes."""
    import resource

    if how == "alone":
        from aarewrite.errors import AarewriteError
        from aarewrite.model.model_file import load
        from aarewrite.model.runtime import plain_session
        from aarewrite.rewriting.pipeline import rewrite
        from aarewrite.rewriting.random_inputs import accepted

        given = {name: options(file.read_bytes())[name] for name in ("recipe", "target", "first_conv")}
        with contextlib.suppress(AarewriteError):  # no size runs: what the runtime took until it gave up
            accepted(plain_session(file), load(file), {}, True, 0)
            result = rewrite(file, verify=False, **given)
            accepted(plain_session(result.model), load(result.model), {}, True, 0)
    else:
        from fuzz import outcome

        outcome(file, **options(file.read_bytes()))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _place(error: BaseException) -> str:
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "aarewrite/" in one.filename]
    return " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(frames[-4:]))


def main() -> None:
    """Fuzz for a time in processes that may die."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=65, help="of the processor, in total")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-guided")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--weigh", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    keep, corpus = asked.keep, asked.keep / "corpus"
    if asked.weigh:
        return _weigh(asked.weigh[0], Path(asked.weigh[1]))
    if asked.child:
        _fuzz(keep, asked.child)
    if not corpus.exists():
        corpus.mkdir(parents=True)
        for data in seeds(asked.folders):
            (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    branches, died = 0, 0
    while _total(keep)[1] < asked.minutes * 60:
        limits = {"rss_limit_mb": MOST, "timeout": STUCK, "runs": RUNS, "max_len": LARGEST, "mutate_depth": 1}
        limits["report_slow_units"] = STUCK
        command = [
            sys.executable, *sys.argv[:1], *map(str, asked.folders), "--keep", str(keep), "--child", str(corpus),
            "-detect_leaks=0", f"-artifact_prefix={keep}/died-", *(f"-{name}={most}" for name, most in limits.items()),
        ]  # fmt: skip
        with open(keep / "log", "a") as log:
            ended = subprocess.run(command, stdout=log, stderr=log)
        died += ended.returncode != 0
        for file in keep.glob("died-*"):  # what a process dies of must not be the next one's seed
            (corpus / file.name.rpartition("-")[2]).unlink(missing_ok=True)
        for file in keep.glob("died-oom-*"):
            taken, alone = _peak("whole", file), _peak("alone", file)
            light = taken <= max(MOST, TIMES * alone)
            file.rename(keep / f"{'heavy' if light else 'finding'}-{file.name.rpartition('-')[2]}.onnx")
            print(f"{file.name}: {taken} MB, alone {alone} MB", flush=True)
        found = re.findall(r"cov: (\d+)", (keep / "log").read_text(errors="replace"))
        branches = max(map(int, found), default=0)
    counts, seconds = _total(keep)
    print(f"{counts.total()} inputs, {seconds / 60:.0f} minutes of the processor, {branches} branches, {died} died")
    for said, count in counts.most_common():
        print(f"{count:7} {said}")


def _total(folder: Path) -> tuple[collections.Counter[str], float]:
    counts: collections.Counter[str] = collections.Counter()
    seconds = 0.0
    for file in folder.glob("counts-*.json"):
        record = json.loads(file.read_text())
        counts.update(record["counts"])
        seconds += record["processor"]
    return counts, seconds


if __name__ == "__main__":
    main()
