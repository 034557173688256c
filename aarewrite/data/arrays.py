"""Names for the array types used throughout the package."""

from __future__ import annotations

from aarewrite.model.types import Array as Array

Offset = tuple[float, ...]  # one shift in pixels per spatial axis
