"""Conditions on a node that several runtimes share."""

from __future__ import annotations

from aarewrite.targets.seen import Lack, Seen

POOLS = ("AveragePool", "LpPool", "MaxPool")


def pool_lacks(node: Seen, runtime: str, ranks: tuple[int, ...], dilated: bool = False) -> Lack | None:
    """Why a runtime does not take a pool: it has other spatial ranks, gives no indices, or takes no dilation."""
    rank = len(node.ints("kernel_shape"))
    if rank not in ranks:
        taken = " or ".join(map(str, ranks))
        return Lack(f"{runtime} pools in {taken} dimensions, not {rank}", "add an axis of size 1")
    if len(node.node.output) > 1 and node.node.output[1]:
        return Lack(f"{runtime} gives no indices of a MaxPool", "remove what reads them")
    if not dilated and any(d != 1 for d in node.ints("dilations")):
        return Lack(f"{runtime} takes no dilated pool", "use another --target")
    return None


def first_not_constant(node: Seen, places: range, names: tuple[str, ...]) -> str:
    """The name of the first input that is given and no constant, "" for none."""
    found = (name for place, name in zip(places, names, strict=True) if node.has(place) and not node.is_constant(place))
    return next(found, "")
