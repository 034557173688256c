"""Protobuf's wire format, just enough to lift the large tensors out of an ONNX file and to put them back.

A ModelProto holds its weights three messages deep: model.graph (field 7) -> graph.initializer (5) ->
tensor.raw_data (9). Reading them straight from the stream, and writing them straight back, keeps one copy of the
weights in memory instead of protobuf's three. Everything else passes through untouched, unknown fields included.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx.proto.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import BinaryIO

import onnx

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
LENGTH_DELIMITED = 2
FIXED_BYTES = {1: 8, 5: 4}  # wire types of fixed width

Lift = Callable[[onnx.TensorProto, bytes], bool]


class WireError(ValueError):
    """The bytes are not a protobuf message, or end too early."""


def lift_weights(stream: BinaryIO, size: int, at_least: int, stub: Lift) -> tuple[bytes, dict[str, bytes]]:
    """Read a serialised ModelProto and set aside the raw_data of its large initializers.

    Args:
        stream: Positioned at the model's first byte; a `WireError` where no well-formed message follows.
        size: Number of bytes of the model.
        at_least: Smallest raw_data, in bytes, that is set aside.
        stub: Called with each such tensor, without its data, to mark it.

    Returns:
        The serialised model without that data, and initializer name -> raw_data.
    """
    weights: dict[str, bytes] = {}

    def lift_tensor(length: int) -> bytes:
        raw, rest = b"", io.BytesIO()
        for number, header, body_length, is_nested in _fields(stream, length):
            if number == RAW_DATA and is_nested and body_length >= at_least:
                raw = _read(stream, body_length)
            else:
                rest.write(header + _read(stream, body_length))
        if not raw:
            return rest.getvalue()
        tensor = onnx.TensorProto.FromString(rest.getvalue())
        if stub(tensor, raw):
            weights[tensor.name] = raw
        else:
            tensor.raw_data = raw
        return bytes(tensor.SerializeToString())

    def lift_message(length: int, wanted: int, lift: Callable[[int], bytes]) -> bytes:
        out = io.BytesIO()
        for number, header, body_length, is_nested in _fields(stream, length):
            if number == wanted and is_nested:
                body = lift(body_length)
                out.write(_key(number) + _varint(len(body)) + body)
            else:
                out.write(header + _read(stream, body_length))
        return out.getvalue()

    return lift_message(size, GRAPH, lambda length: lift_message(length, INITIALIZER, lift_tensor)), weights


def with_weights(skeleton: onnx.ModelProto, restore: Callable[[onnx.TensorProto], bytes | None]) -> list[bytes]:
    """The serialised model in pieces, each large tensor's data put back in its canonical place.

    `restore` is called with every initializer: it removes the mark of a stub and returns its data, or returns None.
    """
    tensors = []
    for tensor in map(deepcopy, skeleton.graph.initializer):
        raw = restore(tensor)
        tensors.append(_with_field(tensor.SerializeToString(), RAW_DATA, [] if raw is None else [[raw]]))
    bare, graph = deepcopy(skeleton), deepcopy(skeleton.graph)
    bare.ClearField("graph")
    del graph.initializer[:]
    return _with_field(bare.SerializeToString(), GRAPH, [_with_field(graph.SerializeToString(), INITIALIZER, tensors)])


def _with_field(message: bytes, number: int, bodies: Sequence[Sequence[bytes]]) -> list[bytes]:
    """A serialised message with `number`, a field of these bodies, each in pieces, in its place among the others."""
    stream, before, after = io.BytesIO(message), io.BytesIO(), io.BytesIO()
    for found, header, body_length, _ in _fields(stream, len(message)):
        (before if found < number else after).write(header + _read(stream, body_length))
    pieces = [before.getvalue()]
    for body in bodies:
        pieces += [_key(number) + _varint(sum(map(len, body))), *body]
    return [*pieces, after.getvalue()]


def _fields(stream: BinaryIO, length: int) -> Iterator[tuple[int, bytes, int, bool]]:
    """(number, header bytes, body length, whether length-delimited) of each field; the caller reads the body."""
    end = stream.tell() + length
    while stream.tell() < end:
        key, header = _read_varint(stream)
        kind, number = key & 7, key >> 3
        if number == 0:
            raise WireError("field number 0")
        if kind == 0:
            _, value = _read_varint(stream)
            yield number, header + value, 0, False
        elif kind == LENGTH_DELIMITED:
            body_length, prefix = _read_varint(stream)
            if stream.tell() + body_length > end:
                raise WireError("a field is longer than the message it is in")
            yield number, header + prefix, body_length, True
        elif kind in FIXED_BYTES:
            yield number, header, FIXED_BYTES[kind], False
        else:
            raise WireError(f"wire type {kind}")
    if stream.tell() != end:
        raise WireError("a field ends behind the message it is in")


def _read(stream: BinaryIO, length: int) -> bytes:
    body = stream.read(length)
    if len(body) != length:
        raise WireError("the stream ends too early")
    return body


def _read_varint(stream: BinaryIO) -> tuple[int, bytes]:
    value, raw = 0, b""
    while True:
        byte = stream.read(1)
        if not byte or len(raw) == 10:
            raise WireError("a number does not end")
        raw += byte
        value |= (byte[0] & 0x7F) << (7 * (len(raw) - 1))
        if byte[0] < 0x80:
            return value, raw


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def _key(number: int) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED)
