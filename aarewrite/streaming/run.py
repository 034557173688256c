"""load -> follow the stream -> lay out -> write -> prove -> time: the whole way, on values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx

from aarewrite.errors import CannotHandle, CheckFailed, UsageError
from aarewrite.model.external import nodes
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.options import Json
from aarewrite.rewriting.checks import validity
from aarewrite.rewriting.pipeline import ModelSource
from aarewrite.rewriting.randomness import draws
from aarewrite.streaming.flow import Flow
from aarewrite.streaming.layout import Planner
from aarewrite.streaming.plan import StreamPlan, plan_of
from aarewrite.streaming.proof import Proof, Steps, prove
from aarewrite.streaming.source import Source
from aarewrite.streaming.step_time import times
from aarewrite.streaming.writer import METADATA_KEY, Writer

FORMS = ("exact",)
SMALL_SECONDS = 1e-3  # a window this quick is made of calls more than of work


@dataclass(frozen=True)
class Streamed:
    """What `stream` returns."""

    plan: StreamPlan
    streaming: Model  # with its weights set aside
    steps: Steps
    proof: Proof
    seconds: tuple[float, float]  # of a window of the original and of a step, on this machine's CPU
    warnings: tuple[str, ...] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The complete streaming ModelProto."""
        return self.streaming.to_proto()

    @property
    def why_not_faster(self) -> str:
        """Where a step takes no less time than a window: why, "" otherwise."""
        if self.seconds[1] < self.seconds[0]:
            return ""
        why = (
            f"a window takes {self.seconds[0] * 1e3:.2g} ms, and more calls of small operators cost more than they save"
            if self.seconds[0] < SMALL_SECONDS
            else f"{self.plan.state_bytes} bytes of states are moved in every step"
        )
        return f"the work falls {self.plan.saving:.2f}x, the time does not: {why}; measure on the device it is for"

    @property
    def report(self) -> Json:
        """Plan, proof and times as plain values, as `--json` writes them."""
        return self.plan.to_dict() | {
            "states": self.steps.states,
            "proof": self.proof.to_dict(),
            "milliseconds": {"window": self.seconds[0] * 1e3, "step": self.seconds[1] * 1e3},
            "model_warnings": list(self.warnings),
        }


def stream(
    model: ModelSource,
    step: int,
    *,
    axis: str | int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    form: str = "exact",
    seed: int = 0,
) -> Streamed:
    """Make a windowed model one that is fed the new samples alone and keeps what it already computed; and prove it.

    Args:
        model: Path of an .onnx file, or a ModelProto, which is left as it is.
        step: By how many samples the window moves on.
        axis: Name or index of the axis that the stream runs along; by default the longest one of space.
        input_shapes: By input name, for sizes that the model leaves open.
        form: "exact": every window equals the original's.
        seed: Of the random signal that the proof runs on.

    Raises:
        UsageError: An argument is wrong, or the step does not divide; the message names the node and steps that work.
        CannotHandle: The model cannot be read or run, or a step would save too little.
        CheckFailed: The proof failed.
    """
    loaded = load(model)
    if any(map(draws, nodes(loaded.proto))):
        raise CannotHandle("the model draws random values: no two runs of it are equal", "export it for inference")
    flow, planner, found = _laid_out(loaded, step, axis, input_shapes, form)
    found.check()
    writer = Writer(flow, planner.best(), step)
    streaming = writer.write({"first_valid": found.first_valid, "form": form, "inputs": flow.inputs})
    warnings = validity(loaded, streaming)
    steps = Steps(flow.inputs, flow.window, step, writer.states)
    shapes = {
        value.name: tuple(d if isinstance(d, int) else 0 for d in flow.source.dims(value.name) or ())
        for value in flow.source.inputs
    }
    proof = prove(loaded, streaming, steps, shapes, seed)
    if not proof.passed:
        raise CheckFailed(
            f"the streaming model is not the original: output {proof.worst.tensor!r} {proof.worst.problem}",
            "nothing was written; please report the model's construct",
        )
    return Streamed(found, streaming, steps, proof, times(loaded, streaming, steps, proof.sample), warnings)


def plan_stream(
    model: ModelSource,
    step: int,
    *,
    axis: str | int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    form: str = "exact",
) -> StreamPlan:
    """What `stream` would do with a model. Arguments as there; what saves too little is not refused."""
    return _laid_out(load(model), step, axis, input_shapes, form)[2]


def _laid_out(
    model: Model, step: int, axis: str | int | None, shapes: Mapping[str, Sequence[int]] | None, form: str
) -> tuple[Flow, Planner, StreamPlan]:
    if form not in FORMS:
        raise UsageError(f"form {form!r} is not one of {', '.join(FORMS)}")
    if recorded(model, METADATA_KEY):
        raise UsageError("the model is a streaming one already", "give the original")
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    flow = Flow(Source(model, given), axis, tuple(given))
    flow.check_step(step)
    planner = Planner(flow, step)
    return flow, planner, plan_of(flow, planner, planner.best())
