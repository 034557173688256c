"""The shift consistency of real classifiers, as they are and rewritten: the figures README and docs quote.

    python benchmarks/consistency.py [--limit 500] [--recipe aligned] [--protocol crop] [--output FILE.md]

$AAREWRITE_SHARED (default ../shared) holds `models/` and `images/imagenet_sample/` with `labels.csv`. Everything is
seeded: the same command gives the same figures on the same versions. Photographs are mostly training images, so
accuracy reads high: compare before with after, not with published numbers.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import aarewrite
from aarewrite.data.preprocess import Preprocess
from aarewrite.outputs import text_output
from aarewrite.verification import VerifyReport, before_after
from aarewrite.verification.statistics import Proportion

SHARED = Path(os.environ.get("AAREWRITE_SHARED", Path(__file__).parents[1].parent / "shared"))
C875 = Preprocess("c875", mean=(128.0,), std=(128.0,))
MODELS: dict[str, str | Preprocess] = {
    "squeezenet1_1_fp32.onnx": "caffe",
    "mobilenet_v2_tv_fp32.onnx": "imagenet",
    "mobilenet_v1_025_128_tf_fp32.onnx": C875,
}
HEAD = "| model | protocol | consistency | stays at 8 px | upset within 1 px | flips a frame | drift | top-1 | n |"


def main() -> None:
    """Rewrite and verify each model, print a Markdown table, write it when asked."""
    parser = argparse.ArgumentParser(description="shift consistency before and after, on real photographs")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--recipe", default="aligned")
    parser.add_argument("--protocol", default="crop")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    images = SHARED / "images" / "imagenet_sample"
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    facts = ""
    for name in options.models:
        path = SHARED / "models" / name
        start = time.perf_counter()
        rewritten = aarewrite.rewrite(path, recipe=options.recipe)
        report = before_after(
            path,
            rewritten.model,
            images,
            labels=images / "labels.csv",
            preprocess=MODELS[name],
            limit=options.limit,
            protocols=options.protocol.split(","),
            names=(f"{name}, {options.recipe}", name),
            progress=True,
        )
        lines += rows(report)
        facts = f"{report.data}; seed {report.seed}; " + ", ".join(f"{k} {v}" for k, v in report.versions.items())
        print("\n".join(lines), f"\n{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if options.output:
        with text_output(options.output, "\n".join([*lines, "", facts, ""])):
            pass


def rows(report: VerifyReport) -> list[str]:
    """One table row a protocol and model, the original first."""
    found = []
    for r in sorted(report.classification, key=lambda r: (report.protocols.index(r.protocol), r.model == report.model)):
        far = max(a.distance for a in r.agreement)
        stays = [a.share.value for a in r.agreement if a.distance == far]
        cells = [
            r.model,
            r.protocol,
            share(r.consistency),
            f"{100 * sum(stays) / len(stays):.1f} %" + ("" if far == 8 else f" ({far:g} px)"),
            share(r.worst_case),
            f"{r.flip_rate.value:.4f}",
            f"{r.drift_mean.value:.4f}",
            share(r.top1) if r.top1 else "",
            str(r.n),
        ]
        found.append("| " + " | ".join(cells) + " |")
    return found


def share(value: Proportion) -> str:
    """A share with its 95 % interval."""
    return f"{100 * value.value:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


if __name__ == "__main__":
    main()
