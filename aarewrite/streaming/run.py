"""load -> follow the stream -> lay out -> write -> prove -> time: the whole way, on values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import onnx

from aarewrite.errors import CannotHandle, CheckFailed, UsageError
from aarewrite.model.external import nodes
from aarewrite.model.model_file import Model, load, recorded
from aarewrite.options import Json
from aarewrite.rewriting.checks import validity
from aarewrite.rewriting.not_finite import weights_to_check
from aarewrite.rewriting.pipeline import ModelSource
from aarewrite.rewriting.randomness import draws
from aarewrite.streaming.compare import RANDOM, compared
from aarewrite.streaming.flow import Flow
from aarewrite.streaming.layout import Layout, Planner
from aarewrite.streaming.plan import StreamPlan, plan_of, signal_plan
from aarewrite.streaming.proof import Agreement, Proof, Steps, prove
from aarewrite.streaming.recordings import open_signal
from aarewrite.streaming.signal import SignalLayout, SignalWriter, lay_out
from aarewrite.streaming.signal_proof import prove_signal
from aarewrite.streaming.source import Source
from aarewrite.streaming.step_time import times
from aarewrite.streaming.writer import METADATA_KEY, Writer

FORMS = ("exact", "signal")
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
    agreements: tuple[Agreement, ...] = ()  # how far the outputs are from the original's, on `measured_on`
    measured_on: str = RANDOM

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
            "agreements": [asdict(one) for one in self.agreements],
        }


def stream(
    model: ModelSource,
    step: int,
    *,
    axis: str | int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    form: str = "exact",
    pack_states: bool = False,
    verify: str | Path | None = None,
    seed: int = 0,
) -> Streamed:
    """Make a windowed model one that is fed the new samples alone and keeps what it already computed; and prove it.

    Args:
        model: Path of an .onnx file, or a ModelProto, which is left as it is.
        step: By how many samples the window moves on.
        axis: Name or index of the axis that the stream runs along; by default the longest one of space.
        input_shapes: By input name, for sizes that the model leaves open.
        form: "exact": every window equals the original's. "signal": the signal's own samples in place of the padding at
            the window's borders; less work, another function, later by `plan.latency` samples.
        pack_states: One state for each element type in place of many.
        verify: A signal of one's own (.wav, .npz, .npy: `recordings.open_signal`) to compare the two on.
        seed: Of the random signal that the proof runs on.

    Raises:
        UsageError: An argument is wrong, or the step does not divide; the message names the node and steps that work.
        CannotHandle: The model cannot be read or run, or a step would save too little.
        CheckFailed: The proof failed.
    """
    loaded = load(model)
    if any(map(draws, nodes(loaded.proto))):
        raise CannotHandle("the model draws random values: no two runs of it are equal", "export it for inference")
    flow, layout, found = _laid_out(loaded, step, axis, input_shapes, form)
    found.check()
    told = {"first_valid": found.first_valid, "latency": found.latency, "form": form}
    shapes = {
        value.name: tuple(d if isinstance(d, int) else 0 for d in flow.source.dims(value.name) or ())
        for value in flow.source.inputs
    }
    writer = Writer(flow, layout, step) if isinstance(layout, Layout) else SignalWriter(flow, layout)
    streaming = writer.write(told, pack_states)
    warnings = validity(loaded, streaming)
    steps = Steps(flow.inputs, flow.window, step, writer.states, found.first_valid, found.latency)
    agreements: tuple[Agreement, ...] = ()
    if isinstance(writer, SignalWriter):
        proof, agreements = prove_signal(loaded, streaming, flow, tuple(writer.interiors()), steps, shapes, seed)
    else:
        proof = prove(loaded, streaming, steps, shapes, seed)
    if not proof.passed:
        raise CheckFailed(
            f"the streaming model is not the original: {proof.worst.tensor!r} {proof.worst.problem}",
            "nothing was written; please report the model's construct",
        )
    if proof.silent:
        what = f"{', '.join(proof.silent)}: NaN or 0 everywhere on {RANDOM}"
        if len(proof.silent) == len(proof.comparisons):
            weights = weights_to_check(loaded) or "check the model's weights"
            raise CheckFailed(f"proof: nothing was compared; {what}", f"nothing was written; {weights}")
        warnings += (f"nothing was compared at {what}",)
    where = RANDOM
    if verify is not None:
        signal = open_signal(Path(verify), steps, proof.sample)
        compared_on = compared(streaming, loaded, steps, signal, proof.sample, form, Path(verify).name)
        where, agreements = compared_on.data, compared_on.agreements
    seconds = times(loaded, streaming, steps, proof.sample)
    return Streamed(found, streaming, steps, proof, seconds, warnings, agreements, where)


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
) -> tuple[Flow, Layout | SignalLayout, StreamPlan]:
    if form not in FORMS:
        raise UsageError(f"form {form!r} is not one of {', '.join(FORMS)}")
    if recorded(model, METADATA_KEY):
        raise UsageError("the model is a streaming one already", "give the original")
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    flow = Flow(Source(model, given), axis, tuple(given))
    flow.check_step(step, everywhere=form == "signal")
    if form == "signal":
        signal = lay_out(flow, step)
        return flow, signal, signal_plan(flow, signal)
    planner = Planner(flow, step)
    layout = planner.best()
    return flow, layout, plan_of(flow, planner, layout)
