"""What is compiled is kept in the user's cache, where nobody has said otherwise and it can be."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from octavo import compiled


@pytest.fixture
def untold() -> Iterator[None]:
    """JAX as nobody has told it where to keep what it compiles."""
    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("untold")
def test_steps_are_kept_by_processor_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.keep_compiled()
    folder = tmp_path / "octavo" / "compiled" / compiled.processor()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.is_dir()


@pytest.mark.usefixtures("untold")
def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compiled.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None


def test_what_somebody_has_said_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = jax.config.jax_compilation_cache_dir  # tests/conftest.py has
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == said is not None
    assert not list(tmp_path.iterdir())
