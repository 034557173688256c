"""Protobuf's bytes, made by hand: large weights are lifted and put back, all else passes through as it is."""

from __future__ import annotations

import io

import onnx
import pytest
from reference import build, weight

from aarewrite.model.wire import WireError, lift_weights, with_weights

RAW = bytes(range(8))
IR = b"\x08\x08"  # ModelProto.ir_version (1) = 8


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field of a number below 16 and fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(body)]) + body


def tensor(raw: bytes = b"", extra: bytes = b"") -> bytes:
    """Two floats called w: dims (1), data_type (2), name (8), raw_data (9)."""
    return b"\x08\x02\x10\x01" + extra + field(8, b"w") + (field(9, raw) if raw else b"")


def model(initializer: bytes, in_graph: bytes = b"", behind: bytes = b"") -> bytes:
    """A model of one graph (7) called g, which holds one initializer (5)."""
    return IR + field(7, field(2, b"g") + field(5, initializer) + in_graph) + behind


def lifted(data: bytes, at_least: int = 1, take: bool = True) -> tuple[bytes, dict[str, bytes]]:
    return lift_weights(io.BytesIO(data), len(data), at_least, lambda *_: take)


def test_raw_data_is_set_aside() -> None:
    assert lifted(model(tensor(RAW))) == (model(tensor()), {"w": RAW})


@pytest.mark.parametrize(("at_least", "names"), [(8, {"w"}), (9, set())])
def test_only_what_is_large_enough_is_set_aside(at_least: int, names: set[str]) -> None:
    skeleton, weights = lifted(model(tensor(RAW)), at_least)
    assert weights.keys() == names
    assert skeleton == model(tensor(b"" if names else RAW))


def test_a_tensor_that_may_not_be_lifted_keeps_its_data() -> None:
    assert lifted(model(tensor(RAW)), take=False) == (model(tensor(RAW)), {})


def test_the_stub_sees_the_tensor_without_its_data_and_marks_it() -> None:
    seen = []

    def stub(proto: onnx.TensorProto, raw: bytes) -> bool:
        seen.append((proto.name, list(proto.dims), proto.HasField("raw_data"), raw))
        proto.doc_string = "elsewhere"
        return True

    data = model(tensor(RAW))
    skeleton, _ = lift_weights(io.BytesIO(data), len(data), 1, stub)
    assert seen == [("w", [2], False, RAW)]
    assert onnx.ModelProto.FromString(skeleton).graph.initializer[0].doc_string == "elsewhere"


# of a number that no message has: a varint, eight bytes, four bytes, length-delimited
UNKNOWN = [b"\xa0\x06\x96\x01", b"\xa1\x06" + RAW, b"\xa5\x06\x01\x02\x03\x04", b"\xa2\x06\x03abc"]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=["varint", "64 bits", "32 bits", "bytes"])
def test_unknown_fields_pass_through_at_every_depth(unknown: bytes) -> None:
    small = model(tensor(RAW, extra=unknown), in_graph=unknown, behind=unknown)
    assert lifted(small, at_least=100) == (small, {})
    skeleton, weights = lifted(small)
    assert weights == {"w": RAW}
    assert skeleton.count(unknown) == 3
    assert skeleton == model(tensor() + unknown, in_graph=unknown, behind=unknown)  # protobuf puts them last


def test_raw_data_elsewhere_is_not_touched() -> None:
    constant = build("(float[1] x) => (float[] y) { k = Constant<value_float = 0.0>() y = Add(x, k) }")
    attribute = constant.graph.node[0].attribute[0]
    attribute.Clear()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(onnx.numpy_helper.from_array(weight(300), "inside"))
    data = constant.SerializeToString()
    assert lifted(data) == (data, {})


@pytest.mark.parametrize("size", [1, 127, 128, 16383, 16384, 2**21])
def test_what_was_lifted_is_put_back_byte_for_byte(size: int) -> None:
    """Lengths of one to four bytes; tensors in front and behind that stay."""
    whole = onnx.ModelProto(ir_version=8, producer_name="test", model_version=3, domain="d")
    whole.opset_import.add(domain="", version=13)
    whole.graph.name, whole.graph.doc_string = "g", "text"
    whole.graph.node.add(op_type="Identity", input=["w"], output=["y"])
    whole.graph.output.add(name="y")
    for name, count in (("front", 0), ("w", size), ("behind", 0)):
        whole.graph.initializer.add(name=name, data_type=2, dims=[count], raw_data=b"\x07" * count, doc_string="doc")
    data = whole.SerializeToString()
    skeleton, weights = lifted(data)
    assert len(skeleton) < 200
    assert weights == {"w": b"\x07" * size}
    pieces = with_weights(onnx.ModelProto.FromString(skeleton), lambda proto: weights.get(proto.name))
    assert b"".join(pieces) == data


def test_the_tensors_data_is_not_copied_on_the_way_out() -> None:
    skeleton, weights = lifted(model(tensor(RAW)))
    pieces = list(with_weights(onnx.ModelProto.FromString(skeleton), lambda proto: weights.get(proto.name)))
    assert any(piece is weights["w"] for piece in pieces)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00", "field number 0"),
        (b"\x08", "a number does not end"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "a number does not end"),
        (b"\x3a\x05\x08", "a field is longer than the message it is in"),
        (IR + field(7, b"\x2a\x05") + b"longer", "a field is longer than the message it is in"),
        (IR + field(7, field(5, b"\x4a\x05")) + b"longer", "a field is longer than the message it is in"),
        (IR + field(7, b"\x08") + b"\x01", "a field ends behind the message it is in"),
        (b"\x0b", "wire type 3"),
        (b"\x09\x01\x02", "the stream ends too early"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_message_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        lifted(data)


def test_every_cut_inside_a_field_is_noticed() -> None:
    data = model(tensor(RAW), in_graph=UNKNOWN[0], behind=UNKNOWN[1])
    whole = []
    for end in range(len(data)):
        try:
            lifted(data[:end])
            whole.append(end)
        except WireError:
            continue
    assert whole == [0, len(IR), len(data) - len(UNKNOWN[1])]
