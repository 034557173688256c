"""Plan and proof as a person reads them in a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from aarewrite.passes.blur_geometry import A_TROUS

if TYPE_CHECKING:
    from rich.console import Console

    from aarewrite.planning import Plan, PlannedSite
    from aarewrite.rewriting.pipeline import Result
    from aarewrite.rewriting.proof import Proof

LONGEST_NAME = 44
PAGE_WIDTH = 160  # where the output is not a terminal


def console() -> Console:
    """A console on stdout, wide enough for whole rows when it is not a terminal."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            """Whoever reads the table may stop reading; the work goes on."""
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, kept open until the process ends

    plain = Plain(highlight=False)
    return plain if plain.is_terminal else Plain(highlight=False, width=PAGE_WIDTH)


def print_plan(plan: Plan, done: bool) -> None:
    """Print every site and every other aliasing source with what is (or would be) done, or why not."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("node", "kind", "kernel", "stride", "so far", "size"):
        table.add_column(column, no_wrap=column != "node", overflow="fold")
    table.add_column("rewritten as" if done else "would become", overflow="fold", ratio=1)
    table.add_column("MACs", justify="right", no_wrap=True)
    for planned in plan.sites:
        site = planned.site
        table.add_row(
            Text(_name(site.scope, site.node)), site.op, _x(site.window.kernel), _x(site.strides),
            _x(site.stride_so_far), f"{_x(site.input_size)} -> {_x(site.output_size)}",
            Text(_what(planned), style="dim" if planned.choice.action == "keep" else ""), _macs(planned),
        )  # fmt: skip
    for source in plan.sources:
        sizes = f"{_x(source.input_size)} -> {_x(source.output_size)}" if source.input_size else ""
        so_far = _x(source.stride_so_far)
        row = (source.op, "", "", so_far, sizes, Text(source.reason, style="dim"), "")
        table.add_row(Text(_name(source.scope, source.node)), *row)
    if plan.sites or plan.sources:
        out.print(table)
    needy = [planned for planned in plan.rewrites if planned.rewrite and planned.rewrite.smallest_map > 1]
    if needy:
        widest = max(planned.rewrite.smallest_map for planned in needy if planned.rewrite)
        out.print(f"note: the image size is open; every blurred map must be at least {widest} wide", markup=False)
    for warning in plan.warnings:
        out.print(f"note: {warning}", markup=False)
    done_at = [p for p in plan.sites if p.rewrite or p.choice.action == A_TROUS or p.choice.second_phase]
    changed = f"{len(done_at)} of {len(plan.sites)} sites"
    if plan.macs is not None and plan.macs_after is not None:
        shapes = ", ".join(f"{name} {_x(shape)}" for name, shape in plan.cost_shapes.items())
        ratio = f" ({plan.macs_after / plan.macs:.3f}x)" if plan.macs else ""
        text = f"{changed}; model {si(plan.macs)} -> {si(plan.macs_after)}"
        out.print(f"{text} multiply-accumulates{ratio} at {shapes}", markup=False)
    else:
        out.print(changed, markup=False)


def plan_rows(plan: Plan) -> list[dict[str, str]]:
    """One row per site for a report: where, what, and what was done or why not."""
    return [
        {
            "node": _name(planned.site.scope, planned.site.node),
            "kind": planned.site.op,
            "stride": _x(planned.site.strides),
            "rewritten as": _what(planned),
            "multiply-accumulates": _macs(planned),
        }
        for planned in plan.sites
    ]


def print_outcome(result: Result) -> None:
    """Print the proof's figures and what limits them."""
    out = console()
    for warning in result.warnings:
        out.print(f"note: {warning}", markup=False)
    if result.proof is not None:
        out.print(proof_line(result.proof), markup=False)
        for name in result.proof.unproven:
            out.print(f"outside the proof (the operator itself changes): {name}", markup=False)
        for note in result.proof.notes:
            out.print(f"note: {note}", markup=False)


def proof_line(proof: Proof) -> str:
    """The identity proof in one line."""
    worst = proof.worst
    runs = ", ".join("+".join(_x(shape) or "scalar" for shape in run.values()) for run in proof.inputs)
    return (
        f"identity proof: {len(proof.comparisons)} tensors equal on random input ({runs}); "
        f"largest difference {worst.difference:.2g} at a scale of {worst.scale:.3g}, in {worst.tensor}"
    )


def _what(planned: PlannedSite) -> str:
    rewrite, choice = planned.rewrite, planned.choice
    if choice.action == A_TROUS:
        return f"{planned.site.op} stride 1, what follows dilated"
    more = ("what follows at two phases, averaged",) if choice.second_phase else ()
    if rewrite is None:
        return "; ".join((f"kept: {choice.reason}", *more))
    blur = rewrite.blur
    mixed = f" strength {blur.strength:g}" if blur.strength < 1 else ""
    text = f"blur {_x(blur.sizes)}{mixed} stride {_x(blur.strides)} {blur.mode}"
    op = planned.site.op
    form = {
        "after": f"{op} stride {_x(rewrite.window.strides)} -> {text}",
        "before": f"{text} -> {op} as it is",
        "input": f"{text} -> {op} stride 1",
        "instead": f"{text} instead of {op}",
    }[rewrite.placement]
    return "; ".join((form, *rewrite.notes, *more))


def _name(scope: str, node: str) -> str:
    name = f"{scope}/{node}" if scope else node
    return name if len(name) <= LONGEST_NAME else "..." + name[-(LONGEST_NAME - 3) :]


def _x(values: object) -> str:
    if not isinstance(values, tuple):
        return "?" if values is None else str(values)
    return "x".join("?" if value is None else str(value) for value in values)


def _macs(planned: PlannedSite) -> str:
    if planned.macs is None:
        return "?"
    before, after = planned.macs
    return si(before) if before == after else f"{si(before)} -> {si(after)}"


def si(count: int) -> str:
    """A count with an SI prefix, three significant digits."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)
