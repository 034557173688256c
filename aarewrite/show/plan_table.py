"""Plan and proof as a person reads them in a terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from aarewrite.show.console import Terminal, product, si

if TYPE_CHECKING:
    from aarewrite.planning import Plan, PlannedSite
    from aarewrite.rewriting.pipeline import Result
    from aarewrite.sites.site import Site, Source


def print_plan(plan: Plan, done: bool) -> None:
    """Print every site and every other aliasing source with what is (or would be) done, or why not."""
    out = Terminal()
    decision = "rewritten as" if done else "would become"
    titles = ("node", "kind", "kernel", "stride", "so far", "size", decision, "MACs>")
    rows = [*(_site_row(plan, planned) for planned in plan.sites), *map(_source_row, plan.sources)]
    out.table(titles, rows, names=("node",), drop=("so far", "kernel", "size", "stride"), below=decision)
    needy = [
        planned.match.smallest_map for planned in plan.rewrites if planned.match and None in planned.site.input_size
    ]
    if needy:
        out.say(f"note: the image size is open; every blurred map must be at least {max(needy)} wide")
    for warning in plan.warnings:
        out.say(f"note: {warning}")
    done_at = [planned for planned in plan.sites if planned.match or plan.stages_at(planned)]
    changed = f"{len(done_at)} of {len(plan.sites)} sites"
    if plan.macs is not None and plan.macs_after is not None:
        shapes = ", ".join(f"{name} {product(shape)}" for name, shape in plan.cost_shapes.items())
        changed += f"; model {_change(plan.macs, plan.macs_after, 'multiply-accumulates')} at {shapes}"
    out.say(changed)
    before, after = plan.costs
    moved = _change(before.activation_bytes, after.activation_bytes, "bytes of activations read and written")
    out.say("; ".join(filter(None, (moved, _change(before.parameters, after.parameters, "parameters")))))


def plan_rows(plan: Plan) -> list[dict[str, str]]:
    """One row per site for a report: where, what, and what was done or why not."""
    names = ("node", "kind", "stride", "rewritten as", "multiply-accumulates")
    rows = [_site_row(plan, planned) for planned in plan.sites]
    return [dict(zip(names, (str(row[i]) for i in (0, 1, 3, 6, 7)), strict=True)) for row in rows]


def print_lacking(lines: list[str]) -> None:
    """Print what a runtime does not take of a model."""
    out = Terminal()
    for line in lines or ["the runtime takes every node"]:
        out.say(line, hang=2)


def print_outcome(result: Result) -> None:
    """Print the proof's figures and what limits them."""
    out, proof = Terminal(), result.proof
    for warning in result.warnings:
        out.say(f"note: {warning}")
    _print_forms(out, result)
    if proof is None:
        return
    runs = ", ".join("+".join(product(shape) or "scalar" for shape in run.values()) for run in proof.inputs)
    out.say(
        f"identity proof: {len(proof.comparisons)} tensors equal on random input ({runs}); largest difference "
        f"{proof.worst.difference:.2g} at a scale of {proof.worst.scale:.3g}, in {proof.worst.tensor}"
    )
    for name in proof.unproven:
        out.say(f"outside the proof (the operator itself changes): {name}")
    for note in proof.notes:
        out.say(f"note: {note}")


def _print_forms(out: Terminal, result: Result) -> None:
    """Print what form the blurs have, and how exactly."""
    counts = Counter(one.form or "Pad and Conv" for one in result.lowered)
    if not any(one.form for one in result.lowered):
        return
    worst = max((c.relative for one in result.lowered for c in one.comparisons), default=None)
    exact = "" if worst is None else f"; equal to Pad and Conv within {worst:.1g} of their scale"
    forms = ", ".join(f"{count} as {form}" for form, count in counts.items())
    out.say(f"blurs for {result.plan.recipe.target or 'portable'}: {forms}{exact}")


def _site_row(plan: Plan, planned: PlannedSite) -> tuple[str | Text, ...]:
    """What the table says of a site: node, kind, kernel, stride, stride so far, size, decision, cost."""
    site = planned.site
    cost = " -> ".join(map(si, dict.fromkeys(planned.macs))) if planned.macs else "?"
    decision = Text(plan.says(planned), style="dim" if planned.action == "keep" else "")
    return _name(site), site.op, product(site.window.kernel), product(site.strides), *_where(site), decision, cost


def _source_row(source: Source) -> tuple[str | Text, ...]:
    window = (product(getattr(source, name, ())) for name in ("kernel", "strides"))
    return _name(source), source.op, *window, *_where(source), Text(source.says, style="dim"), ""


def _change(before: int | None, after: int | None, what: str) -> str:
    """For example "3.16M -> 5.01M parameters (1.584x)"; "" where one is unknown."""
    if before is None or after is None:
        return ""
    ratio = f" ({after / before:.3f}x)" if before else ""
    return f"{si(before)} -> {si(after)} {what}{ratio}"


def _name(at: Site | Source) -> str:
    return f"{at.scope}/{at.node}" if at.scope else at.node


def _where(at: Site | Source) -> tuple[str, str]:
    """The stride so far, and the sizes in and out."""
    sizes = f"{product(at.input_size)} -> {product(at.output_size)}" if at.input_size else ""
    return product(at.stride_so_far), sizes
