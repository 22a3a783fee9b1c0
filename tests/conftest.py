"""Shared fixtures: where the corpora are."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of corpora, or a skip that says where it was looked for."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("no corpora: there is no folder ../shared/corpora beside the repository")
    return folder
