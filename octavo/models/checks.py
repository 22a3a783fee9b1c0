"""What every architecture's config refuses in the same words."""

from __future__ import annotations

from typing import Any

from octavo.errors import OctavoError

LARGEST = 2**24  # no size of a published model comes near it; a larger one is a damaged file


def require_sizes(config: Any, *names: str) -> None:
    """Refuse a field that is not a whole number from 1 to 16,777,216."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
            raise OctavoError(f"{name} must be a whole number from 1 to {LARGEST}, not {value!r}")
