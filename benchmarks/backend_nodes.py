"""Every model of onnx's own backend tests through `aarewrite.rewrite`: how many come out rewritten and proven, as they
were, or refused, and why.

The node tests are made by `onnx.backend.test.case.node`; the models of other kinds and the skeletons of eight known
networks lie in the onnx package. Usage: python benchmarks/backend_nodes.py [NAME_PART]
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import onnx
import onnx.backend.test
import onnx.version_converter

import aarewrite

FILES = Path(onnx.backend.test.__file__).parent / "data"
EXAMPLES = 3
CONVERTED = 13  # opset of models that are too old


def main() -> int:
    """Print counts by outcome and reason; 1 where anything but these outcomes comes out, or takes over ten seconds."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    counts: Counter[str] = Counter()
    names = defaultdict[str, list[str]](list)
    slow = []
    for name, model in chain(node_models(), file_models()):
        if part not in name:
            continue
        start = time.perf_counter()
        found = outcome(model)
        if "is older than" in found:  # what the message advises
            counts[f"{found}, then converted"] += 1
            found = outcome(onnx.version_converter.convert_version(model, CONVERTED))
        counts[found.partition(":")[0]] += 1
        names[found].append(name)
        if time.perf_counter() - start > 10:
            slow.append(name)
    for found, examples in sorted(names.items(), key=lambda row: (row[0].partition(":")[0], -len(row[1]))):
        print(f"{len(examples):5}  {found}  ({', '.join(examples[:EXAMPLES])})")
    for found, count in counts.most_common():
        print(f"{count:5}  {found}")
    print(f"over ten seconds: {', '.join(slow) or 'none'}")
    return int(bool(slow or counts["failed"]))


def node_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """The node tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of what the tests calculate
        from onnx.backend.test.case.node import collect_testcases

        yield from ((case.name, case.model) for case in collect_testcases(None))


def file_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """The models in the onnx package: of PyTorch's operators and layers, simple ones, and skeletons."""
    for file in sorted(FILES.rglob("*.onnx")):
        yield f"{file.parent.name}/{file.stem}" if file.stem == "model" else file.stem, onnx.load(file)


def outcome(model: onnx.ModelProto) -> str:
    """What comes of a model: "unchanged" (equal byte for byte), "rewritten and proven", "refused: REASON", or "failed:
    REASON" for a check that failed."""
    try:
        result = aarewrite.rewrite(model, first_conv=True)
    except (aarewrite.CannotHandle, aarewrite.UsageError) as error:
        return f"refused: {error.message}"
    except aarewrite.CheckFailed as error:
        return f"failed: {error.message}"
    if not result.plan.changes:
        same = result.model.SerializeToString() == model.SerializeToString()
        return "unchanged" if same else "failed: changed without a rewrite"
    if aarewrite.plan(result.model, first_conv=True).changes:
        return "failed: a second run changes it again"
    return "rewritten and proven" if result.proof is not None and result.proof.passed else "failed: not proven"


if __name__ == "__main__":
    sys.exit(main())
