"""Wall time and peak memory of aarewrite against onnxslim on the same 100 MB ResNet-50, interleaved in one run.

    pip install -e '.[bench]' && python benchmarks/speed.py

Prints medians and ratios; the ratios are what counts, for the machine may be shared and noisy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    problem = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{' '.join(command)} failed: {problem.decode()[-500:]}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Interleave the commands `--runs` times and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder, "resnet50.onnx"), Path(folder, "out.onnx")
        subprocess.run([sys.executable, str(HERE / "resnet50.py"), str(model)], check=True)
        size = model.stat().st_size / 2**20
        tool = [str(scripts / "aarewrite")]
        commands = {
            "libraries alone": [
                sys.executable, "-c",
                "import numpy, onnx, onnxruntime, onnx_graphsurgeon, typer, rich.table, polygraphy.backend.onnxrt",
            ],
            "aarewrite --help": [*tool, "--help"],
            "aarewrite --no-verify": [*tool, str(model), "-o", str(out), "--no-verify"],
            "aarewrite": [*tool, str(model), "-o", str(out)],
            "onnxslim": [str(scripts / "onnxslim"), str(model), str(out)],
        }  # fmt: skip
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for run in range(runs + 1):
            for name, command in commands.items():
                figures = measure(command)
                if run:  # the first round warms the file cache
                    seen[name].append(figures)
    wall = {name: statistics.median(s for s, _ in figures) for name, figures in seen.items()}
    peak = {name: statistics.median(m for _, m in figures) for name, figures in seen.items()}
    print(f"model: {size:.0f} MB; {runs} interleaved runs, medians")
    print("| command | wall s | of onnxslim | peak MB |\n|---|---|---|---|")
    for name in commands:
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(seen[name], seen["onnxslim"], strict=True))
        print(f"| {name} | {wall[name]:.2f} | {ratio:.2f} | {peak[name]:.0f} |")
    for name in ("aarewrite --no-verify", "aarewrite"):
        print(
            f"{name}: peak memory beyond the libraries {(peak[name] - peak['libraries alone']) / size:.2f}x the model"
        )


if __name__ == "__main__":
    main()
