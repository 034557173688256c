"""Options: frozen dataclasses whose fields say what they may hold, and the one reader that fills them from a table.

Recipes (TOML), plans (JSON), preprocessing files (TOML) and the passes themselves declare their options this way: the
annotation is the type, `option` adds what else must hold.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, field
from typing import TYPE_CHECKING, TypeVar

from aarewrite.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Value = typing.TypeVar("Value")
Table = Mapping[str, object]
LARGEST = 2**63 - 1  # whole number
Json = dict[str, typing.Any]  # plain values, as JSON has them

NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def option(
    default: Value | types.EllipsisType = ...,
    *,
    choices: Iterable[object] = (),
    holds: Callable[[typing.Any], object] | None = None,
    says: str = "",
) -> Value:
    """A dataclass field with a condition.

    Args:
        default: Its default; none given: the field must be there.
        choices: The values allowed, where they can be listed.
        holds: Otherwise, whether a value of the right type is allowed.
        says: What `holds` asks for, as it ends "filter = 9 is not ...".
    """
    metadata = {"choices": tuple(choices), "holds": holds, "says": says}
    if isinstance(default, types.EllipsisType):
        return typing.cast(Value, field(metadata=metadata))
    return field(default=default, metadata=metadata)


def whole(default: Value) -> Value:
    """A field that counts: a whole number of 0 or more."""
    return option(default, holds=lambda value: value >= 0, says="a whole number of 0 or more")


def share(default: Value) -> Value:
    """A field that is a part of something, and not nothing: above 0 and up to 1."""
    return option(default, holds=lambda value: 0 < value <= 1, says="above 0 and up to 1")


def read(kind: type[T], table: object, where: str, *, also: Collection[str] = (), **given: object) -> T:
    """A dataclass from a table of plain values.

    Args:
        kind: The dataclass.
        table: Its fields by name; lists become tuples.
        where: What the table is, for messages: "recipe mine".
        also: Keys that may be there and are not read.
        given: Fields whose values are not read from the table.

    Raises:
        UsageError: It is no table, has an unknown key, lacks one, or a value is not allowed; the message names it.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is not a table", "write it as key = value")
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    if unknown := sorted(str(key) for key in set(table) - {*known, *also}):
        names = ", ".join(sorted({*known, *also} - set(given)))
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", f"known are {names}")
    values = {name: _listed(table[name]) for name in known if name in table} | given
    for entry in known.values():
        if entry.name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise UsageError(f"{where}: no {entry.name!r}", "add it")
    hints = _hints(kind)
    for name in set(values) - set(given):
        check(f"{where}: {name} = {table[name]!r}", values[name], hints[name], known[name])
    return kind(**values)


def check_fields(made: DataclassInstance, where: str) -> None:
    """Check the fields of a dataclass that was made by hand.

    Raises:
        UsageError: As `read`.
    """
    hints = _hints(type(made))
    for entry in dataclasses.fields(made):
        value = getattr(made, entry.name)
        check(f"{where}: {entry.name} = {value!r}", value, hints[entry.name], entry)


def check(what: str, value: object, hint: object, entry: Field[object]) -> None:
    """Refuse a value that is not of a field's type or does not fulfil its condition.

    Raises:
        UsageError: It is not; the message says what is.
    """
    choices, holds = entry.metadata.get("choices", ()), entry.metadata.get("holds")
    if choices:
        if value is None and value == entry.default:
            return
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise UsageError(f"{what} is not one of {', '.join(map(str, choices))}")
        return
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if any(_fits(value, kind) for kind in kinds) and (value is None or holds is None or holds(value)):
        return
    says = entry.metadata.get("says") or " or ".join(filter(None, map(_name, kinds)))
    raise UsageError(f"{what} is not {says}")


_hints = functools.cache(typing.get_type_hints)


def _fits(value: object, kind: object) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(one, typing.get_args(kind)[0]) for one in value)
    if kind in (int, float):  # neither NaN nor infinity, and nothing that overflows where it is calculated with
        most = LARGEST if kind is int else sys.float_info.max
        return type(value) in (int, kind) and abs(typing.cast(float, value)) <= most
    return type(value) is kind if isinstance(kind, type) else True


def _name(kind: object) -> str:
    if typing.get_origin(kind) is tuple:
        return f"a list, each {_name(typing.get_args(kind)[0])}"
    return NAMES.get(kind, "") if isinstance(kind, type) else ""


def _listed(value: object) -> object:
    return tuple(map(_listed, value)) if isinstance(value, list) else value
