"""What the terminal shows of a streaming model."""

from reference import build, weight

import aarewrite
from aarewrite.show.stream_table import print_stream_plan, print_streamed
from aarewrite.streaming.run import Streamed


def streamed() -> Streamed:
    model = build(
        "(float[1, 2, 32] x) => (float[] y) { [conv] a = Conv<pads = [1, 1]>(x, w) [mean] y = GlobalAveragePool(a) }",
        w=weight(4, 2, 3),
    )
    return aarewrite.stream(model, step=4)


def words(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_rows_and_sums(capsys) -> None:
    print_stream_plan(streamed().plan)
    assert words(capsys) == (
        "node kind computed kept MACs why the whole window conv Conv 1 + 5 of 32 26 768 -> 144 "
        "mean GlobalAveragePool whole it averages the whole window "
        "exact form along axis 2 of x: window 32, step 4; 768 -> 144 multiply-accumulates a step "
        "(0.188 of the window's, 5.33x less); states 640B; outputs are right from step 8 on"
    )


def test_times_and_why_they_do_not_fall(capsys) -> None:
    found = streamed()
    print_streamed(Streamed(found.plan, found.streaming, found.steps, found.proof, (4e-3, 1e-3), ("odd",)))
    text = words(capsys)
    assert text.startswith(
        "note: odd proof: every output (1) of 4 windows of a random signal, step by step; largest difference"
    )
    assert text.endswith("time 4 ms a window -> 1 ms a step (0.25x)")
    print_streamed(Streamed(found.plan, found.streaming, found.steps, found.proof, (1e-3, 2e-3)))
    assert "note: the work falls 5.33x, the time does not: 640 bytes of states are moved in every step" in words(capsys)
