"""The examples give what the original models give, window by window."""

import importlib.util
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from reference import session

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(model: str, signal, window: int, step: int):
    net = session(onnx.load(ROOT / "sample_models" / model))
    ends = range(-(-window // step) * step, signal.shape[-1] + 1, step)
    return [int(net.run(None, {"input": signal[..., end - window : end]})[0].argmax()) for end in ends]


def test_streams(tmp_path) -> None:
    streaming = example("streaming")
    path = streaming.tone(tmp_path / "tone.wav")
    with wave.open(str(path), "rb") as stream:
        samples = np.frombuffer(stream.readframes(8000), "<i2").astype(np.float32) / 2**15
    assert list(streaming.wav_file(path)) == answers("conv1d.onnx", samples[None, None], 128, 16)
    assert len(list(streaming.electrocardiogram(3))) == (300 - 128) // 16 + 1
    digits = np.load(ROOT / "sample_models" / "digits_eval.npz")["x"][:20, 0, 4:36, 4:36]
    picture = (np.concatenate(list(digits), axis=1) / 255).astype(np.float32)[None, None]
    found = list(streaming.panorama())
    assert [digit for _, digit in found] == answers("vgg.onnx", picture, 32, 4)
    assert [column for column, _ in found][:2] == [0, 4]
