"""Running a model piece by piece over the calibration data, each piece once.

A layer can only be repaired when everything before it is, so the data pass through the model layer after layer.
Starting over for each would cost the square of the depth. A `Stream` remembers, per batch, the tensors that are live
at the last layer it stopped at and goes on from there; where these are too large to keep (the first, wide maps) it
goes on from the last place where they were not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from aarewrite.data.arrays import Array, Batches, Feed
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import consumed
from aarewrite.model.runtime import Session, first_line, plain_session


class Stream:
    """A model and its data, run from one layer to the next.

    Args:
        model: The model; its weights may be changed between two runs, from the last `cut` on.
        batches: Called for each pass from the start; yields the feeds, always the same ones in the same order.
        memory: Bytes that the remembered tensors may take.
        threads: Threads of ONNX Runtime.
    """

    def __init__(self, model: onnx.ModelProto, batches: Batches, *, memory: int, threads: int) -> None:
        self.model = model
        self._batches = batches
        self._memory = memory
        self._threads = threads
        self._inspect()
        self._cut = 0
        self._live: list[dict[str, Array]] | None = None  # per batch; None: start from the feeds
        self._used = 0

    def _inspect(self) -> None:
        """Look at the graph again: repaired layers have other weights and may have gained a bias."""
        graph = self.model.graph
        self._nodes = list(graph.node)
        self._reads = [consumed(node) for node in self._nodes]
        self._constants = {tensor.name for tensor in graph.initializer}
        self._constants |= {tensor.values.name for tensor in graph.sparse_initializer}
        # What depends on constants alone is computed anew in every piece: remembering it would pin old weights.
        for node, reads in zip(self._nodes, self._reads, strict=True):
            if reads <= self._constants and (reads or node.op_type == "Constant"):
                self._constants |= set(node.output)

    def run(self, wanted: Sequence[str], cut: int) -> Iterator[dict[str, Array]]:
        """Yield the `wanted` tensors of each batch, and remember what is live before node `cut`.

        Args:
            wanted: Names of tensors of the main graph.
            cut: Index of a node; no earlier than that of the run before, and no wanted tensor's later use of
                remembered data may need an earlier one.

        Raises:
            CannotHandle: ONNX Runtime cannot run the piece.
            UsageError: The feeds do not fit the model.
        """
        self._inspect()
        keep = self._live_before(cut)
        session: Session | None = None
        remembered: list[dict[str, Array]] | None = []
        used = 0
        for feed in self._start():
            if session is None:
                session = self._session(list(dict.fromkeys([*wanted, *keep])), feed)
            values = self._execute(session, feed)
            known = {**feed, **values}
            if remembered is not None:
                live = {name: known[name] for name in keep}
                remembered.append(live)
                used += _bytes(live)
                # What is remembered from the last stop and what is being collected are alive together.
                if used + self._used > self._memory:
                    remembered = None
                    session = None  # the next piece need not produce them
                    keep = []
            yield {name: known[name] for name in wanted}
            del values, known
        if remembered is not None and remembered:
            self._cut, self._live, self._used = cut, remembered, used

    def _start(self) -> Iterator[Feed]:
        yield from self._live if self._live is not None else self._batches()

    def _live_before(self, cut: int) -> list[str]:
        needed: set[str] = set().union(*self._reads[cut:]) if cut < len(self._nodes) else set()
        made = {value.name for value in self.model.graph.input}
        made |= {name for node in self._nodes[:cut] for name in node.output}
        return sorted((needed & made) - self._constants)

    def _session(self, outputs: list[str], feed: Feed) -> Session | None:
        piece = self._piece([name for name in outputs if name not in feed], feed)
        if piece is None:
            return None
        try:
            return plain_session(piece, self._threads)
        except Exception as error:
            raise CannotHandle(f"ONNX Runtime cannot load a piece of the model: {first_line(error)}") from error

    def _piece(self, outputs: list[str], feed: Feed) -> onnx.ModelProto | None:
        """The nodes that make `outputs` out of the tensors in `feed`; None when there is nothing to make."""
        if not outputs:
            return None
        missing = set(outputs)
        chosen: list[onnx.NodeProto] = []
        for node, reads in zip(reversed(self._nodes), reversed(self._reads), strict=True):
            if missing & set(node.output):
                missing -= set(node.output)
                missing |= reads - set(feed)
                chosen.append(node)
        graph = onnx.GraphProto(name=self.model.graph.name or "piece")
        graph.node.extend(reversed(chosen))
        reads_of_piece = set().union(*(consumed(node) for node in chosen))
        graph.initializer.extend(t for t in self.model.graph.initializer if t.name in reads_of_piece)
        graph.sparse_initializer.extend(
            t for t in self.model.graph.sparse_initializer if t.values.name in reads_of_piece
        )
        unknown = missing - {t.name for t in graph.initializer} - {t.values.name for t in graph.sparse_initializer}
        if unknown:
            raise UsageError(
                f"the calibration data lack the model's input {', '.join(sorted(unknown))}",
                f"name the arrays after the model's inputs (given: {', '.join(sorted(feed)) or 'none'})",
            )
        for name in sorted(reads_of_piece & set(feed)):
            element = onnx.helper.np_dtype_to_tensor_dtype(feed[name].dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, element, None))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        piece = onnx.ModelProto(ir_version=self.model.ir_version, graph=graph)
        piece.opset_import.extend(self.model.opset_import)
        piece.functions.extend(self.model.functions)
        return piece

    def _execute(self, session: Session | None, feed: Feed) -> dict[str, Array]:
        if session is None:
            return {}
        try:
            names = [output.name for output in session.get_outputs()]
            values = session.run(names, {i.name: feed[i.name] for i in session.get_inputs()})
        except Exception as error:
            raise UsageError(
                f"the model does not run on the calibration data: {first_line(error)}",
                "check shape, type and preprocessing of the data",
            ) from error
        return dict(zip(names, values, strict=True))


def _bytes(tensors: Mapping[str, Array]) -> int:
    return sum(value.nbytes for value in tensors.values())
