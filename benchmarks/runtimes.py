"""What other runtimes make of rewritten models: how far they are from ONNX Runtime on the CPU, or why they refuse.

    pip install -e '.[openvino]' MNN && npm install --prefix WEB onnxruntime-web
    python benchmarks/runtimes.py [--web WEB] [--shared]

The sample models are rewritten by every form of blur, small nets of other kinds by the default recipe, and run on the
same random input in ONNX's reference evaluator, OpenVINO, MNN, and ONNX Runtime's wasm build in Node, in float32. A
cell is the largest difference from ONNX Runtime, relative to the output's scale; above 1e-4 (float16: 4e-3) it is bold.
A runtime that is not installed is left out. With --shared the models in $AAREWRITE_SHARED/models that take one image of
floats follow.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import aarewrite
from aarewrite.errors import AarewriteError
from aarewrite.model.model_file import load
from aarewrite.model.runtime import plain_session
from aarewrite.rewriting.random_inputs import accepted

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Runtime = Callable[[onnx.ModelProto, Feeds], dict[str, Array]]
ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("AAREWRITE_SHARED", ROOT.parent / "shared"))
SAMPLES = ("resnet", "resnet_blur", "densenet", "conv1d")
LARGEST = 1e-4  # difference, of the output's scale
LARGEST_HALF = 4 * 2.0**-10  # where outputs are float16
FORMS: dict[str, dict[str, Any]] = {
    "portable, the default": {},
    **{f"portable, f={taps}": {"filter": taps} for taps in (2, 4, 5)},
    "portable, --pad zero": {"pad": "zero"},
    "portable, --pad edge": {"pad": "edge"},
    "portable, --placement before": {"placement": "before"},
    **{f"--target {target}": {"target": target} for target in ("ort-cuda", "tensorrt", "openvino", "coreml")},
}


def onnx_runtime(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """ONNX Runtime on the CPU: what the others are held against."""
    session = plain_session(model, 1)
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def reference_evaluator(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """ONNX's own definition of the operators, in numpy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def openvino(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """OpenVINO on the CPU, in float32."""
    import openvino as ov

    core = ov.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
    found = compiled(dict(feeds))
    return {value.name: np.asarray(found[place]) for place, value in enumerate(model.graph.output)}


def mnn(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """MNN on the CPU, converted by its own tool."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "model.mnn")
        onnx.save(model, source)
        tool = shutil.which("mnnconvert", path=os.fspath(Path(sys.executable).parent)) or "mnnconvert"
        command = [tool, "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "aarewrite"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if not target.exists():
            raise RuntimeError(f"not converted: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        names, outputs = list(feeds), [value.name for value in model.graph.output]
        code = (
            "import sys, numpy as np, MNN.nn as nn, MNN.expr as expr\n"
            "folder, inputs, outputs = sys.argv[1], sys.argv[2].split(';'), sys.argv[3].split(';')\n"
            "net = nn.load_module_from_file(folder + '/model.mnn', inputs, outputs)\n"
            "feeds = np.load(folder + '/feeds.npz')\n"
            "given = [expr.const(np.ascontiguousarray(feeds[n]), feeds[n].shape, expr.NCHW) for n in inputs]\n"
            "found = [np.array(expr.convert(y, expr.NCHW).read()) for y in net.onForward(given)]\n"
            "np.savez(folder + '/found.npz', **dict(zip(outputs, found)))\n"
        )
        np.savez(Path(folder, "feeds.npz"), **feeds)
        words = [sys.executable, "-c", code, folder, ";".join(names), ";".join(outputs)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"does not run ({done.returncode}): {(done.stderr.strip().splitlines() or [''])[-1]}")
        with np.load(Path(folder, "found.npz")) as found:
            return {name: found[name] for name in outputs}


def web(modules: Path, model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """ONNX Runtime's wasm build in Node, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder, "model.onnx"))
        table = {}
        for place, (name, value) in enumerate(feeds.items()):
            Path(folder, f"{place}.bin").write_bytes(np.ascontiguousarray(value).tobytes())
            table[name] = {"file": f"{place}.bin", "type": value.dtype.name, "dims": value.shape}
        Path(folder, "feeds.json").write_text(json.dumps(table))
        script = modules / "runtimes_web.mjs"  # modules are looked up from where the script is
        shutil.copy(ROOT / "benchmarks" / "runtimes_web.mjs", script)
        done = subprocess.run(["node", script, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "rror" in line] or [""]
            raise RuntimeError(f"does not run: {lines[0].strip()}")
        outputs = json.loads(Path(folder, "found.json").read_text())
        return {
            name: np.fromfile(Path(folder, one["file"]), one["type"]).reshape(one["dims"])
            for name, one in outputs.items()
        }


def runtimes(modules: Path | None) -> dict[str, Runtime]:
    """Those that are installed, by the name and version that the table gives them."""
    from importlib.metadata import version

    found: dict[str, Runtime] = {f"ONNX reference {onnx.__version__}": reference_evaluator}
    if importlib.util.find_spec("openvino"):
        found[f"OpenVINO {version('openvino').split('-')[0]}"] = openvino
    if importlib.util.find_spec("MNN"):
        found[f"MNN {version('MNN')}"] = mnn
    package = None if modules is None else modules / "node_modules" / "onnxruntime-web" / "package.json"
    if package is not None and modules is not None and package.exists() and shutil.which("node"):
        found[f"onnxruntime-web {json.loads(package.read_text())['version']}"] = partial(web, modules)
    return found


def difference(run: Runtime, model: onnx.ModelProto, feeds: Feeds) -> float:
    """The largest difference of any output from ONNX Runtime's, relative to its scale."""
    want, got = onnx_runtime(model, feeds), run(model, feeds)
    if want.keys() != got.keys() or any(want[name].shape != got[name].shape for name in want):
        raise RuntimeError("outputs of other names or shapes")
    return max(float(np.abs(got[name] - want[name]).max() / (np.abs(want[name]).max() or 1)) for name in want)


def random_feeds(model: onnx.ModelProto) -> Feeds:
    """Random input of the first size that the model takes."""
    feeds, _ = accepted(plain_session(model, 1), load(model), {}, False, seed=0)[0]
    return feeds


def small_net(opset: int = 17, kind: str = "float", rank: int = 2, is_open: bool = False) -> onnx.ModelProto:
    """A strided conv, an activation, a max pool and a strided 1x1 conv, which every recipe blurs."""
    two, ones, three = ([n] * rank for n in (2, 1, 3))
    size = ", ".join(["h", "w", "d"][:rank] if is_open else ["24"] * rank)
    pads = [1] * 2 * rank
    ports = f"({kind}[1, 8, {size}] x) => ({kind}[{', '.join('abcde'[: rank + 2])}] y)"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> net {ports} {{
        a = Conv<strides = {two}, pads = {pads}>(x, wide)
        b = Relu(a)
        c = MaxPool<kernel_shape = {three}, strides = {two}, pads = {pads}>(b)
        d = Conv<strides = {ones}, pads = {pads}>(c, wide)
        e = Relu(d)
        y = Conv<strides = {two}>(e, narrow)
    }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (8, 8, *three)), ("narrow", (8, 8, *ones))):
        value = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(
            np.float16 if kind == "float16" else np.float32
        )
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return model


def quantised() -> onnx.ModelProto:
    """The sample ResNet in int8, by ONNX Runtime's static quantisation on random input, with weights of 7 bits:
    ONNX Runtime saturates sums of products of 8 on x86 processors without VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Random(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            values = np.random.default_rng(0).standard_normal((8, 1, 1, 32, 32)).astype(np.float32)
            self.feeds = iter([{"input": value} for value in values])

        def get_next(self) -> Feeds | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "int8.onnx")
        quantize_static(sample("resnet"), target, Random(), quant_format=QuantFormat.QDQ, reduce_range=True)
        return onnx.load(target)


def sample(name: str) -> Path:
    """A sample model's file."""
    return ROOT / "sample_models" / f"{name}.onnx"


def shared_models() -> dict[str, Path]:
    """The models of the shared folder that take one image of floats."""
    found = {}
    for path in sorted((SHARED / "models").glob("*.onnx")):
        inputs = plain_session(path, 1).get_inputs()
        if len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4:
            found[path.stem] = path
    return found


KINDS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{f"opset {opset}": partial(small_net, opset) for opset in (11, 13, 18, 21, 23)},
    "float16": partial(small_net, kind="float16"),
    "1-D": partial(small_net, rank=1),
    "3-D": partial(small_net, rank=3),
    "open sizes": partial(small_net, is_open=True),
    "int8 (QDQ)": quantised,
}


class Table:
    """Cells of differences, and why what was refused was refused."""

    def __init__(self, columns: Mapping[str, Runtime]) -> None:
        self.columns = columns
        self.refusals: dict[str, None] = {}

    def head(self, title: str) -> None:
        """Print the titles."""
        print(f"\n| {title} | {' | '.join(self.columns)} |\n|---|{'---|' * len(self.columns)}")

    def row(self, title: str, originals: Mapping[str, Callable[[], onnx.ModelProto]], **options: Any) -> None:
        """Print the worst difference over some models, given by name and rewritten with these options."""
        worst, refused = dict.fromkeys(self.columns, 0.0), dict.fromkeys(self.columns, 0)
        largest = LARGEST
        for name, make in originals.items():
            try:
                model = aarewrite.rewrite(make(), verify=False, **options).model
            except AarewriteError as error:
                self.refusals[f"{title}: {error}"] = None
                continue
            half = any(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 for value in model.graph.output)
            largest = LARGEST_HALF if half else LARGEST
            feeds = random_feeds(model)
            for runtime, run in self.columns.items():
                try:
                    worst[runtime] = max(worst[runtime], difference(run, model, feeds))
                except Exception as error:  # each runtime has its own
                    refused[runtime] += 1
                    what = f"{title}, {name}, {runtime}{', the original too' * _refuses(run, make())}"
                    self.refusals[f"{what}: {' '.join(str(error).split())[:240]}"] = None
        cells = [
            f"refused {refused[one]} of {len(originals)}" if refused[one] else
            f"{worst[one]:.0e}" if worst[one] <= largest else f"**{worst[one]:.0e}**"
            for one in self.columns
        ]  # fmt: skip
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _refuses(run: Runtime, model: onnx.ModelProto) -> bool:
    try:
        difference(run, model, random_feeds(model))
    except Exception:
        return True
    return False


def main() -> None:
    """Print a table of forms, one of kinds of models, one of the shared models if asked, and the refusals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--web", type=Path, help="the folder that onnxruntime-web is installed in")
    parser.add_argument("--shared", action="store_true")
    args = parser.parse_args()
    table = Table(runtimes(args.web))
    table.head("form")
    for form, options in FORMS.items():
        table.row(form, {name: partial(onnx.load, sample(name)) for name in SAMPLES}, **options)
    table.head("model")
    for kind, make in KINDS.items():
        table.row(kind, {kind: make}, first_conv=True)
    for name, path in shared_models().items() if args.shared else []:
        table.row(name, {name: partial(onnx.load, path)})
    print("\n".join(["", *table.refusals]))


if __name__ == "__main__":
    main()
