"""A streaming model run step by step in ONNX Runtime, its states kept on the device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from aarewrite.errors import UsageError
from aarewrite.model.model_file import load, recorded
from aarewrite.model.types import Array
from aarewrite.streaming.proof import Steps, zeros
from aarewrite.streaming.writer import METADATA_KEY


class StreamingSession:
    """Runs a streaming model on one stream.

    Args:
        model: Its path, or the ModelProto.
        batch: Streams that run beside each other, where the model leaves its batch size open.
        providers: ONNX Runtime's execution providers, the first choice first; states stay on the first one's device.
        options: ONNX Runtime's session options.

    Raises:
        UsageError: It is no streaming model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | onnx.ModelProto,
        batch: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        options: ort.SessionOptions | None = None,
    ) -> None:
        told = recorded(load(model), METADATA_KEY)
        if not told:
            raise UsageError("it is no streaming model", "make one with aarewrite stream")
        content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(Path(model))
        self.session = ort.InferenceSession(content, options, providers=list(providers))
        self.batch = batch
        steps = Steps.told(told)
        self.window, self.step, self.first_valid, self.axes = steps.window, steps.step, steps.first_valid, steps.inputs
        self._states = steps.states
        self._device = "cuda" if self.session.get_providers()[0] == "CUDAExecutionProvider" else "cpu"
        self._outputs = [port.name for port in self.session.get_outputs() if port.name not in self._states.values()]
        self._binding = self.session.io_binding()
        self.reset()

    def reset(self) -> None:
        """Begin anew: the states are zeros, and nothing was fed."""
        ports = {port.name: port for port in self.session.get_inputs()}
        self._values = {
            name: ort.OrtValue.ortvalue_from_numpy(
                zeros(ports[name].shape, ports[name].type, self.batch), self._device, 0
            )
            for name in self._states
        }
        self._waiting: dict[str, Array] = {}
        self.steps = 0  # that ran

    def push(
        self, samples: Array | Mapping[str, Array], others: Mapping[str, Array] | None = None
    ) -> list[dict[str, Array]]:
        """Feed new samples, any number of them along the stream's axis; what fills no step waits for the next ones.

        Args:
            samples: Of the streamed input; by name where there are several, of equal length.
            others: Inputs that are not streamed.

        Returns:
            The outputs by name, once for every step that ran and whose outputs are right.

        Raises:
            UsageError: An input is missing, or they are not of equal length.
        """
        given = {next(iter(self.axes)): samples} if isinstance(samples, np.ndarray) else dict(samples)
        if given.keys() != self.axes.keys():
            raise UsageError(f"samples of {', '.join(given)}", f"give those of {', '.join(self.axes)}")
        for name, value in given.items():
            before = self._waiting.get(name)
            whole = value if before is None else np.concatenate([before, value], self.axes[name])
            self._waiting[name] = whole
        lengths = {value.shape[self.axes[name]] for name, value in self._waiting.items()}
        if len(lengths) > 1:
            raise UsageError("the streamed inputs are of different lengths", "push as many samples of each")
        found = []
        count = lengths.pop() // self.step
        for k in range(count):
            pieces = {name: self._part(name, k * self.step, (k + 1) * self.step) for name in self.axes}
            outputs = self._run({**pieces, **(others or {})})
            if self.steps >= self.first_valid:
                found.append(outputs)
        self._waiting = {name: self._part(name, count * self.step, None) for name in self.axes}
        return found

    def _part(self, name: str, low: int, high: int | None) -> Array:
        where = (slice(None),) * self.axes[name] + (slice(low, high),)
        return np.ascontiguousarray(self._waiting[name][where])

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        binding = self._binding
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        for name, state in self._values.items():
            binding.bind_ortvalue_input(name, state)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        for name in self._states.values():
            binding.bind_output(name, self._device)
        self.session.run_with_iobinding(binding)
        values = dict(zip((*self._outputs, *self._states.values()), binding.get_outputs(), strict=True))
        self._values = {name: values[output] for name, output in self._states.items()}
        self.steps += 1
        return {name: values[name].numpy() for name in self._outputs}
