"""Running a model piece by piece over the calibration data, each piece once.

A layer can only be repaired when everything before it is, so the data pass through the model layer after layer.
Starting over for each would cost the square of the depth. A `Stream` remembers, per batch, the tensors that are live
at the last layer it stopped at and goes on from there; where these are too large to keep (the first, wide maps) it
goes on from the last place where they were not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx

from aarewrite.data.arrays import Batches, Feed
from aarewrite.errors import CannotHandle, UsageError
from aarewrite.model.index import consumed
from aarewrite.model.runtime import first_line, plain_session

Piece = Callable[[Feed], Feed]


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
        self._batches, self._memory, self._threads = batches, memory, threads
        self._live: list[Feed] = []  # per batch; none: start from the feeds

    def run(self, wanted: Sequence[str], cut: int) -> Iterator[Feed]:
        """Yield the `wanted` tensors of each batch, and remember what is live before node `cut`.

        Args:
            wanted: Names of tensors of the main graph.
            cut: Index of a node; no earlier than that of the run before, and no wanted tensor's later use of
                remembered data may need an earlier one.

        Raises:
            CannotHandle: ONNX Runtime cannot run the piece.
            UsageError: The feeds do not fit the model.
        """
        keep = self._live_before(cut)
        piece: Piece | None = None
        live: list[Feed] = []
        # What is remembered from the last stop and what is being collected are alive together.
        room = self._memory - sum(map(_bytes, self._live))
        for feed in self._live or self._batches():
            if piece is None:
                piece = self._piece([name for name in dict.fromkeys([*wanted, *keep]) if name not in feed], feed)
            known = {**feed, **piece(feed)}
            if room >= 0:
                live.append({name: known[name] for name in keep})
                room -= _bytes(live[-1])
                if room < 0:
                    live, keep, piece = [], [], None  # the next piece need not produce them
            yield {name: known[name] for name in wanted}
            del known
        self._live = live or self._live

    def _computed(self) -> set[str]:
        """What depends on inputs. The rest is computed anew in every piece: remembering it would pin old weights."""
        graph = self.model.graph
        constants = {tensor.name for tensor in graph.initializer}
        constants |= {tensor.values.name for tensor in graph.sparse_initializer}
        found = {value.name for value in graph.input} - constants
        for node in graph.node:
            reads = consumed(node)
            if reads <= constants and (reads or node.op_type == "Constant"):
                constants |= set(node.output)
            else:
                found |= set(node.output)
        return found

    def _live_before(self, cut: int) -> list[str]:
        nodes = self.model.graph.node
        behind = {name for node in nodes[cut:] for name in node.output}
        return sorted(set[str]().union(*map(consumed, nodes[cut:])) & self._computed() - behind)

    def _piece(self, outputs: Sequence[str], feed: Feed) -> Piece:
        """A function from feeds like this to `outputs`: of the nodes that make them out of its tensors."""
        if not outputs:
            return lambda feed: {}
        source = self.model.graph
        missing, reads = set(outputs), set[str]()
        chosen: list[onnx.NodeProto] = []
        for node in reversed(source.node):
            if missing & set(node.output):
                reads |= consumed(node)
                missing = missing - set(node.output) | consumed(node) - set(feed)
                chosen.append(node)
        graph = onnx.GraphProto(name=source.name or "piece", node=chosen[::-1])
        graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in reads)
        graph.sparse_initializer.extend(tensor for tensor in source.sparse_initializer if tensor.values.name in reads)
        missing -= {tensor.name for tensor in graph.initializer}
        if missing := missing - {tensor.values.name for tensor in graph.sparse_initializer}:
            raise UsageError(
                f"the calibration data lack the model's input {', '.join(sorted(missing))}",
                f"name the arrays after the model's inputs (given: {', '.join(sorted(feed)) or 'none'})",
            )
        inputs = sorted(reads & set(feed))
        for name in inputs:
            element = onnx.helper.np_dtype_to_tensor_dtype(feed[name].dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, element, None))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        model = self.model
        piece = onnx.ModelProto(
            ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions, graph=graph
        )
        try:
            session = plain_session(piece, self._threads)
        except Exception as error:
            raise CannotHandle(f"ONNX Runtime cannot load a piece of the model: {first_line(error)}") from error

        def run(feed: Feed) -> Feed:
            try:
                values = session.run(outputs, {name: feed[name] for name in inputs})
            except Exception as error:
                raise UsageError(
                    f"the model does not run on the calibration data: {first_line(error)}",
                    "check shape, type and preprocessing of the data",
                ) from error
            return dict(zip(outputs, values, strict=True))

        return run


def _bytes(tensors: Feed) -> int:
    return sum(value.nbytes for value in tensors.values())
