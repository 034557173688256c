"""The ideal low-pass filter in its reflecting form: it passes what the strided map can hold and nothing else.

Along an axis of N samples and stride s the map is reflected at its borders to the period 2N, its frequencies
|k| < 2N/(2s) are kept, and the result is sampled at s*j, where the strided operator samples. As the reflection is
half-sample symmetric this is the DCT-II with its first N/s coefficients kept: a constant matrix of N/s rows, whose
rows sum to 1. A map is multiplied by one matrix per axis. Source: N. Ahmed, T. Natarajan, K. R. Rao, "Discrete Cosine
Transform", IEEE Trans. Computers 1974.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
import numpy.typing as npt

from aarewrite.model.graph import GraphEditor, Scope
from aarewrite.model.types import Node, Tensor
from aarewrite.passes.contract import LowPass, Quantisation, SitePass, Skip
from aarewrite.sites.regions import FLOATS
from aarewrite.sites.site import Site
from aarewrite.windows import Axes, Sizes, x

F64 = npt.NDArray[np.float64]
LARGEST = 4096  # samples along an axis: the matrix has the square of it by the stride


def low_pass(size: int, cut: int, positions: Sequence[int]) -> F64:
    """Rows of the ideal low-pass over `size` samples for stride `cut`, at the given positions: (positions, size)."""
    kept = np.arange(-(-size // cut))  # k < size / cut
    basis = np.cos(np.pi / size * np.outer(np.arange(size) + 0.5, kept)) * np.sqrt(np.where(kept, 2, 1) / size)
    return np.asarray(basis[list(positions)] @ basis.T)


@dataclass(frozen=True)
class Ideal(LowPass):
    """One entry per spatial axis; an axis of stride 1 is not filtered.

    Attributes:
        size: Samples of the map; any where it is not filtered.
        cuts: The strides that it filters for.
        strides: What it samples by: the same, or 1.
        strength: As in the contract: the rest is plain subsampling.
        identity: The structural twin: it subsamples.
    """

    size: Sizes
    cuts: Axes
    strides: Axes
    strength: float
    identity: bool = False

    names = takes_strength = ("ideal",)
    keeps_constants = True

    @classmethod
    def fit(cls, site: Site, do: SitePass, strides: Axes, mapped: Sizes) -> tuple[Self, bool, tuple[str, ...]] | Skip:
        """1. A float map. 2. It reflects, and filters strided axes alone. 3. Their sizes are known, divide by the
        stride, and are not absurd."""
        cut = [(n, s) for n, s in zip(mapped, strides, strict=True) if s > 1]
        why = ""
        if site.dtype not in FLOATS:
            why = "has no integer form: choose 3 or another --filter for this quantised map"
        elif do.pad != "reflect" or do.pad_rule != "centred" or do.every_axis:
            why = "reflects and filters strided axes alone: use pad = reflect, or another --filter"
        elif not cut:
            why = "cuts what a stride cannot hold, and this is stride 1: choose 3 or another --filter"
        elif any(n is None for n, _ in cut):
            why = f"needs the size of the map, {x(mapped)}: give --input NAME:SHAPE, or choose another --filter"
        elif any(n is not None and n % s for n, s in cut):
            why = f"needs a map that divides by the stride, not {x(mapped)} by {x(strides)}: choose another --filter"
        elif any(n is not None and n > LARGEST for n, _ in cut):
            why = f"would be a matrix of {x(mapped)} samples, over {LARGEST}: choose another --filter"
        if why:
            return Skip(f"the ideal filter {why}")
        return cls(mapped, strides, strides, do.strength), True, ()

    def output(self, size: Sizes) -> Sizes:
        """Spatial size of the filtered map."""
        return tuple(None if n is None else -(-n // s) for n, s in zip(size, self.strides, strict=True))

    def filtered(self) -> list[tuple[int, int, range]]:
        """The spatial axes that are filtered: which, samples in, and their positions that are kept."""
        rows = enumerate(zip(self.size, self.cuts, self.strides, strict=True))
        return [(axis, n, range(0, n, s)) for axis, (n, cut, s) in rows if n is not None and cut > 1]

    def matrices(self) -> list[tuple[int, F64]]:
        """The spatial axes that are filtered, each with its matrix of shape (samples out, samples in)."""
        part = 0.0 if self.identity else self.strength
        return [
            (axis, part * low_pass(n, self.cuts[axis], kept) + (1 - part) * np.eye(n)[list(kept)])
            for axis, n, kept in self.filtered()
        ]

    def nodes(
        self, editor: GraphEditor, scope: Scope, source: Tensor, target: Tensor, channels: int, dtype: int, name: str,
        quantisation: Quantisation | None = None, bias: Tensor | None = None,
    ) -> list[Node]:  # fmt: skip
        """A MatMul for each axis: from the right for the last one, from the left for the one before it, and between
        two Transposes for any other. A quantised source is filtered in float."""
        assert bias is None, "it keeps constants"
        rank, nodes = len(self.size), list[Node]()

        def add(op: str, inputs: Sequence[Tensor], **attributes: object) -> Tensor:
            output = editor.variable(f"{name}/{op}/output")
            nodes.append(editor.node(op, f"{name}/{op}", inputs, [output], **attributes))
            return nodes[-1].outputs[0]

        scaling = [] if quantisation is None else [quantisation.scale, quantisation.zero_point]
        if scaling:
            source = add("DequantizeLinear", [source, *scaling])
        for axis, values in self.matrices():
            if axis == rank - 1:
                source = add("MatMul", [source, editor.constant(scope, f"{name}/low_pass", values.T, dtype)])
                continue
            swapped = list(range(rank + 2))
            swapped[axis + 2], swapped[rank] = rank, axis + 2
            source = source if axis == rank - 2 else add("Transpose", [source], perm=swapped)
            source = add("MatMul", [editor.constant(scope, f"{name}/low_pass", values, dtype), source])
            source = source if axis == rank - 2 else add("Transpose", [source], perm=swapped)
        if scaling:
            add("QuantizeLinear", [source, *scaling])
        nodes[-1].outputs[0] = target
        return nodes

    def macs(self, size: Sizes) -> int:
        """Of each axis in turn, every sample in for every sample out."""
        total, now = 0, [n or 1 for n in size]
        for axis, _, kept in self.filtered():
            total += prod(now) * len(kept)
            now[axis] = len(kept)
        return total

    def twin(self) -> Self:
        """Each row has a single 1, at the position it samples."""
        return dataclasses.replace(self, identity=True)

    def dense(self) -> Self:
        """At all positions, with the same frequencies cut."""
        return dataclasses.replace(self, strides=(1,) * len(self.strides))

    def record(self) -> dict[str, object]:
        """Name, strength and strides."""
        return {"filter": self.names[0], "strength": self.strength, "samples_by": list(self.strides)}

    def __str__(self) -> str:
        """For example "ideal low-pass stride 2x2 of 56x56"."""
        mixed = f" strength {self.strength:g}" if self.strength < 1 else ""
        cut = "" if self.strides == self.cuts else f" cut for {x(self.cuts)}"
        return f"ideal low-pass{mixed}{cut} stride {x(self.strides)} of {x(self.size)}"
