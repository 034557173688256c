"""Texts that others wrote: read as plain values, whatever they hold; and shown so that a terminal stays what it is."""

from __future__ import annotations

import json
import tomllib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aarewrite.errors import UsageError

LARGEST = 64 * 2**20  # bytes of a recipe, a plan, a preprocessing file
DIGITS = 18  # what fits into 64 bits
UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # control and format characters, lone surrogates, line ends


def read_json(path: Path, hint: str = "correct the file") -> object:
    """The values of a JSON file; `hint` is what to do where it is none.

    Raises:
        UsageError: It cannot be read, is too large, or is no JSON; the message names the file.
    """
    return _read(path, json.loads, "JSON", hint)


def read_toml(path: Path) -> dict[str, object]:
    """The table of a TOML file. Errors as of `read_json`."""
    return cast("dict[str, object]", _read(path, tomllib.loads, "TOML", "correct the file"))  # TOML is a table


def parsed(text: str, parse: Callable[[str], object], kind: str, where: str, hint: str = "correct it") -> object:
    """The values of a text in JSON or TOML. Errors as of `read_json`; `where` is what they call it."""
    try:
        return parse(text)
    except ValueError as error:  # a number of 5000 digits, too
        raise UsageError(f"{where}: not valid {kind} ({error})", hint) from None
    except RecursionError:
        raise UsageError(f"{where}: {kind} nested too deeply", hint) from None


def number(text: str) -> int | None:
    """A whole number of 0 or more written in plain digits, that fits into 64 bits; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None


def printable(text: str) -> str:
    r"""The text with what a terminal obeys, or what hides or turns text, written as \x1b or \u202e."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(letter) if unicodedata.category(letter) in UNSEEN else letter for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _read(path: Path, parse: Callable[[str], object], kind: str, hint: str) -> object:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UsageError(f"{path}: more than {LARGEST >> 20} MB", hint)
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", "give the path of a file") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "give the path of a file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file", hint) from None
    return parsed(text, parse, kind, str(path), hint)
