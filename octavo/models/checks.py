"""What every architecture's config refuses in the same words."""

from __future__ import annotations

from typing import Any

from octavo.errors import OctavoError

LARGEST, DEEPEST = 2**24, 1000  # no published model comes near; a larger number is a damaged file


def require_sizes(config: Any, *names: str, most: int = LARGEST) -> None:
    """Refuse a field that is not a whole number from 1 to `most`."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise OctavoError(f"{name} must be a whole number from 1 to {most}, not {value!r}")
