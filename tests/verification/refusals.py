"""Whatever is wrong with a request: one clear line on stderr that names it, and the right exit status."""

from __future__ import annotations

from command import aa, failed


def refused(status: int, *words: str, args: list[str]) -> None:
    failed(aa("verify", *args), status, *words)
