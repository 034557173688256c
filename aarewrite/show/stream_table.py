"""A streaming model on the terminal: a row for every node, the sums, the proof, the times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from aarewrite.show.console import Terminal, si

if TYPE_CHECKING:
    from aarewrite.streaming.compare import Compared
    from aarewrite.streaming.plan import Row, StreamPlan
    from aarewrite.streaming.proof import Agreement, Proof
    from aarewrite.streaming.run import Streamed


def print_stream_plan(plan: StreamPlan) -> None:
    """Print what a step computes, keeps and computes whole, and why."""
    out = Terminal()
    titles = ("node", "kind", "computed", "kept", "MACs>", "why the whole window")
    out.table(titles, [_row(row) for row in plan.rows], names=("node",), below="why the whole window")
    share = plan.work / max(1, plan.window_work)
    out.say(
        f"{plan.form} form along axis {plan.axis} of {plan.input}: window {plan.window}, step {plan.step}; "
        f"{si(plan.window_work)} -> {si(round(plan.work))} multiply-accumulates a step ({share:.3f} of the window's, "
        f"{plan.saving:.2f}x less); states {si(plan.state_bytes)}B; outputs are right from step {plan.first_valid} on"
        + (f", {plan.latency} samples late" if plan.latency else "")
    )


def print_streamed(found: Streamed) -> None:
    """Print the proof and the times."""
    out, proof, (window, step) = Terminal(), found.proof, found.seconds
    worst = proof.worst
    for warning in found.warnings:
        out.say(f"note: {warning}")
    maps = len({one.tensor for one in proof.comparisons})
    if found.plan.form == "signal":
        out.say(
            f"proof: {maps} maps equal the original's where no border reaches, in {proof.windows} "
            f"windows of a random signal; largest difference {worst.difference:.2g} at a scale of {worst.scale:.3g}"
        )
    else:
        _say_proof(out, proof)
    _say_agreements(out, found.agreements, found.measured_on)
    for note in proof.notes:
        out.say(f"note: {note}")
    out.say(f"time {window * 1e3:.3g} ms a window -> {step * 1e3:.3g} ms a step ({step / window:.2f}x)")
    if step >= window:
        out.say(f"note: {found.why_not_faster}")


def print_compared(found: Compared) -> None:
    """Print how far a streaming model is from its original."""
    _say_agreements(Terminal(), found.agreements, found.data)


def _say_agreements(out: Terminal, agreements: Iterable[Agreement], where: str) -> None:
    for one in agreements:
        same = "" if one.same is None else f", the same answer in {one.same:.1%}"
        out.say(
            f"{one.output} on {one.windows} windows of {where}: largest difference {one.difference:.2g}, NRMSE "
            f"{one.nrmse:.3g} of the original's spread{same}"
        )


def _say_proof(out: Terminal, proof: Proof) -> None:
    worst = proof.worst
    out.say(
        f"proof: every output ({len(proof.comparisons)}) of {proof.windows} windows of a random signal, step by step; "
        f"largest difference {worst.difference:.2g} at a scale of {worst.scale:.3g}, in {worst.tensor}"
    )


def _row(row: Row) -> tuple[str | Text, ...]:
    pieces = " + ".join(f"{high - low}" for low, high in row.pieces)
    computed = f"{pieces} of {row.length}" if row.length and not row.reason else "whole"
    kept = f"{row.state[1] - row.state[0]}" if row.state else ""
    cost = " -> ".join(map(si, dict.fromkeys((row.macs, round(row.work))))) if row.macs else ""
    return row.node, row.op, computed, kept, cost, Text(row.reason, style="dim")
