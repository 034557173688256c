"""What a step computes and what it keeps: the pieces of every node, the states, and where those are laid.

A streamed tensor has up to three pieces: [0, a) and [z, L) are computed in every step, what lies between them and is
read at all is a state. Whatever has no state is computed wherever it is read. So caches can be laid where the network
is narrow: the few indices that are read behind an expansion are computed once more from the narrow tensor in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from aarewrite.streaming.flow import Flow, Part, volume
from aarewrite.streaming.tracks import Range, Track, overlap
from aarewrite.streaming.work import macs

# In multiply-accumulates: what a step pays for one element of a state, which is joined, cut and handed over, and for
# one element that a node computes besides. For a state ONNX Runtime on a CPU would have up to 30; it gains little.
OF_A_STATE = 8
OF_AN_ELEMENT = 2
LONGEST_CHAIN = 8  # nodes between a tensor and a narrower one in front of it that may be cached instead


@dataclass(frozen=True)
class Layout:
    """What a step computes and keeps."""

    pieces: dict[int, tuple[Range, ...]]  # by the part's position; what is not here is not computed at all
    states: dict[str, Range]  # by tensor
    work: float  # multiply-accumulates of a step
    cost: float  # those, and what else it pays


class Planner:
    """Lays out a step of a model; the costs are worked out once. The work of a model without multiply-accumulates is
    how many elements it computes."""

    def __init__(self, flow: Flow, step: int) -> None:
        self.flow, self.step = flow, step
        self.macs = macs(flow.source, [part.node for part in flow.parts])
        self.elements = [sum(volume(flow.source, name) for name in part.outputs) for part in flow.parts]
        if not any(self.macs):
            self.macs = self.elements
        self._kept = {name: track.kept(step) for name, track in flow.tracks.items() if name in flow.sized}
        self._makers = {name: k for k, part in enumerate(flow.parts) for name in part.outputs}

    @property
    def work(self) -> int:
        """Multiply-accumulates of a whole window."""
        return sum(self.macs)

    def best(self) -> Layout:
        """The cheapest layout found: states wherever they are read, then those taken out that cost more than they
        save, alone or with the pointwise nodes in front of them."""
        without: set[str] = set()
        best = self.layout(without)
        for name in [name for name in best.states if name not in self.flow.inputs]:
            for chain in self._chains(name):
                tried = self.layout(without | chain)
                if tried.cost < best.cost:
                    best, without = tried, without | chain
                    break
        return best

    def _chains(self, name: str) -> Iterator[Set[str]]:
        """A tensor, then with it what its nodes compute it from, index by index."""
        chain = {name}
        for _ in range(LONGEST_CHAIN):
            yield set(chain)
            part = self.flow.parts[self._makers[name]]
            sources = {part.node.input[k] for k in part.rule.inputs} if part.rule else set()
            if len(sources) != 1 or part.rule is None or part.rule.reads((1, 2)) != (1, 2):
                return
            name = sources.pop()
            if name in self.flow.inputs:
                return
            chain.add(name)

    def layout(self, without: Set[str]) -> Layout:
        """The layout in which these tensors have no state."""
        flow, work, cost = self.flow, 0.0, 0.0
        reads: dict[str, set[Range]] = {}
        wanted, pieces, states = set(flow.source.outputs), dict[int, tuple[Range, ...]](), dict[str, Range]()

        def read(name: str, part: Range | None) -> None:
            track = flow.tracks.get(name)
            if track is None:
                wanted.add(name)
            else:
                reads.setdefault(name, set()).add(part or (0, track.length))

        for name in flow.source.outputs:
            read(name, None)
        for k in range(len(flow.parts) - 1, -1, -1):
            part = flow.parts[k]
            rule, share = part.rule, 1.0
            if rule is None or rule.ends:
                if not wanted & set(part.outputs):
                    continue
                pieces[k] = ((0, 1),)
                for name in part.reads:
                    index = name in {part.node.input[i] for i in rule.inputs} if rule else False
                    read(name, rule.reads((0, 1)) if rule and index else None)
            else:
                made = [self._made(name, reads[name], without, states) for name in part.outputs if name in reads]
                if not made:
                    continue
                pieces[k] = done = _pieces(part, rule.track, made)
                if done == ((0, rule.track.length),):
                    for name in part.outputs:
                        states.pop(name, None)
                share = sum(high - low for low, high in done) / rule.track.length
                for piece in done:
                    for i in rule.inputs:
                        read(part.node.input[i], rule.reads(piece))
            work += share * self.macs[k]
            cost += share * self.elements[k] * OF_AN_ELEMENT
        for name in flow.inputs:
            if name in reads:
                self._made(name, reads[name], (), states)
        for name, (low, high) in states.items():
            cost += OF_A_STATE * (high - low) * volume(flow.source, name) / flow.tracks[name].length
        return Layout(pieces, states, work, work + cost)

    def _made(self, name: str, reads: set[Range], without: Set[str] | tuple[()], states: dict[str, Range]) -> Range:
        """Where the piece at the left ends and that at the right begins, of what is read; notes the state."""
        length = self.flow.tracks[name].length
        kept = None if name in without else self._kept.get(name)
        left, right = 0, length
        if kept is None:
            for low, high in reads:
                if high <= length - low:
                    left = max(left, high)
                else:
                    right = min(right, low)
            return left, right
        inside = [both[0] for part in reads if (both := overlap(part, kept))]
        for low, high in reads:
            if low < kept[0]:
                left = max(left, min(high, kept[0]))
            if high > kept[1]:
                right = min(right, max(low, kept[1]))
        if inside:
            states[name], right = (min(inside), kept[1]), kept[1]
        return left, right


def _pieces(part: Part, track: Track, made: list[Range]) -> tuple[Range, ...]:
    """The pieces that a node computes, one where two would meet."""
    assert part.rule is not None, "what has no rule has no pieces"
    left, right = max(a for a, _ in made), min(z for _, z in made)
    ranges = [part.rule.made(piece) for piece in ((0, left), (right, track.length)) if piece[0] < piece[1]]
    if len(ranges) == 2 and ranges[0][1] >= ranges[1][0]:
        ranges = [(0, track.length)]
    return tuple(ranges)
