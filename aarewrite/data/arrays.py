"""Names for the array types used throughout the package."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Offset = tuple[float, ...]  # one shift in pixels per spatial axis
