"""The signal form's proof: where no border reaches, every map equals the original's; and how far the outputs are.

The original runs on every window of a random signal. Of each map that comes in chunks, the part of a chunk that lies in
the interior of a window's map must equal it, and so must the interior of each map that is read as a whole: so delays,
states and joins are right, and the padding is all that differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from aarewrite.errors import CannotHandle, CheckFailed
from aarewrite.model.model_file import Model
from aarewrite.model.runtime import first_line, open_session
from aarewrite.model.types import Array
from aarewrite.rewriting.proof import Comparison, compare_arrays
from aarewrite.rewriting.random_inputs import Shapes
from aarewrite.rewriting.stretches import with_outputs
from aarewrite.streaming.flow import Flow
from aarewrite.streaming.proof import Agreement, Proof, Steps, by_size, cut, measure, pairs, sample_of, signals
from aarewrite.streaming.signal import Interior

WINDOWS = 40  # of the random signal that the outputs are measured on


def prove_signal(
    original: Model,
    streaming: Model,
    flow: Flow,
    interiors: Sequence[Interior],
    steps: Steps,
    shapes: Shapes,
    seed: int = 0,
) -> tuple[Proof, tuple[Agreement, ...]]:
    """The proof, and how far the outputs are from the original's.

    Args:
        original: The model as it was loaded.
        streaming: The streaming model.
        flow: Of the original.
        interiors: What is to be compared.
        steps: How the streaming model is fed.
        shapes: The original's inputs' shapes; 0 for an open size.
        seed: Of the signal.

    Raises:
        CannotHandle: The original does not run, or borders reach every map all over: there is nothing to compare.
        CheckFailed: The streaming model does not run.
    """
    if not interiors:
        raise CannotHandle("the borders reach every map all over: the signal form cannot be proven", "use --form exact")
    sample = sample_of(open_session(original), original, shapes, seed)
    watched = dict.fromkeys(one.tensor for one in interiors)
    try:
        before = open_session(with_outputs(flow.source.model, watched))
        after = open_session(with_outputs(streaming, [one.held for one in interiors]))
        early = Steps(steps.inputs, steps.window, steps.step, steps.states, 1, steps.latency)
        signal = signals(sample, steps, WINDOWS, seed)
        found = list(pairs(before, after, early, signal, sample))
    except Exception as error:  # ONNX Runtime raises a dozen private types
        raise CheckFailed(f"the streaming model does not run: {first_line(error)}", "nothing was written") from None
    worst: dict[str, Comparison] = {}
    history = dict[str, deque[Array]]()
    for expected, actual in found:
        for one in interiors:
            past = history.setdefault(one.held, deque(maxlen=one.steps + 1))
            past.append(actual[one.held])
            if len(past) == one.steps + 1 and expected:
                axis = flow.tracks[one.tensor].axis
                a, b = cut(expected[one.tensor], axis, *one.map), cut(past[0], axis, *one.part)
                compared = compare_arrays(one.tensor, a, b)
                if one.held not in worst or by_size(compared) > by_size(worst[one.held]):
                    worst[one.held] = compared
    whole = [(e, a) for count, (e, a) in enumerate(found, 1) if e and count >= steps.first_valid]
    agreements = measure(({n: e[n] for n in flow.source.outputs}, a) for e, a in whole)
    return Proof(tuple(worst.values()), len([e for e, _ in found if e]), sample), agreements
