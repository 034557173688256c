"""What a site says of itself."""

from __future__ import annotations

from reference import build, weight
from stages import reasons


def test_patch_embedding_is_left() -> None:
    model = build(
        "(float[1, 3, 32, 32] x) => (float[] y) { [patch] y = Conv<strides = [4, 4]>(x, w) }", w=weight(8, 3, 4, 4)
    )
    text = "patch embedding (kernel equals stride): dense evaluation costs the stride squared"
    assert reasons(model) == {"patch": text}
    assert reasons(model, first_conv=True) == {"patch": text}
