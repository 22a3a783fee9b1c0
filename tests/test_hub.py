"""``hub:owner/name``, without a network: from the cache where it is whole, else fetched; and errors."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

import octavo
from octavo import OctavoError, hub, tokenizers

from .conftest import ALPHABET, GOLDEN

QWEN3 = GOLDEN / "huggingface" / "qwen3"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as the cache would hold it."""
    folder = tmp_path / "snapshot"
    shutil.copytree(QWEN3, folder)
    tokenizers.char(ALPHABET).save(folder / "tokenizer.json")
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Puts answers in the place of the hub's, each a folder or an error; gives the list of questions."""

    def answer(*answers: Path | Exception) -> list[dict[str, Any]]:
        questions: list[dict[str, Any]] = []
        left = iter(answers)

        def snapshot_download(repository: str, **options: Any) -> str:
            questions.append({"repository": repository} | options)
            found = next(left)
            if isinstance(found, Exception):
                raise found
            return str(found)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return questions

    return answer


NOT_THERE = errors.LocalEntryNotFoundError("not in the cache")


def http(kind: type[Exception]) -> Exception:
    """An error of the hub, made without a hub."""
    error = kind.__new__(kind)
    Exception.__init__(error, "401 Client Error.\nMore lines.")
    return error


def test_what_is_in_the_cache_is_not_asked_for(published: Path, asked: Any) -> None:
    questions = asked(published)
    assert octavo.load("hub:Owner/a-model.1").model_type == "qwen3"
    assert questions == [{"repository": "Owner/a-model.1", "revision": None, "local_files_only": True}]


def test_what_is_not_in_the_cache_is_fetched_and_only_what_is_read(published: Path, asked: Any) -> None:
    questions = asked(NOT_THERE, published)
    assert octavo.load("hub:owner/name@refs/pr/1").model_type == "qwen3"
    assert questions[1] == {
        "repository": "owner/name",
        "revision": "refs/pr/1",
        "allow_patterns": hub.FILES,
    }


@pytest.mark.parametrize("left_out", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_cache_that_lacks_a_file_is_completed(
    left_out: str, published: Path, asked: Any, tmp_path: Path
) -> None:
    shutil.copytree(published, tmp_path / "part")
    (tmp_path / "part" / left_out).unlink()
    questions = asked(tmp_path / "part", published)
    octavo.load("hub:owner/name")
    assert len(questions) == 2


def test_without_a_connection_what_the_cache_has_is_taken(published: Path, asked: Any) -> None:
    (published / "tokenizer.json").unlink()
    asked(published, errors.LocalEntryNotFoundError("no connection"))
    assert octavo.load("hub:owner/name").tokenizer is None


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (http(errors.GatedRepoError), "its owner asks for consent first"),
        (http(errors.RepositoryNotFoundError), "the hub has no such model, or not for you"),
        (http(errors.RevisionNotFoundError), "the model has no revision 'v2'"),
        (
            http(errors.HfHubHTTPError),
            "cannot be reached, and the cache does not hold it (401 Client Error.)",
        ),
        (errors.LocalEntryNotFoundError("a\nb"), "cannot be reached, and the cache does not hold it (a)"),
        (errors.OfflineModeIsEnabled("offline"), "(offline)"),
        (ConnectionError(), "(ConnectionError)"),
        (errors.HFValidationError("name too long"), "(name too long)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_is_said_in_a_line(error: Exception, named: str, asked: Any) -> None:
    asked(NOT_THERE, error)
    with pytest.raises(OctavoError) as caught:
        octavo.load("hub:owner/name@v2")
    assert named in str(caught.value)
    assert "hub:owner/name@v2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["hub:", "hub:name", "hub:a/b/c", "hub:a/b@", "hub:a/b c", "hub:../..@x y", "hub:a/é"]
)
def test_what_is_no_name_is_refused_before_anything_is_asked(name: str, asked: Any) -> None:
    questions = asked()
    with pytest.raises(OctavoError, match="hub:owner/name or hub:owner/name@revision"):
        octavo.load(name)
    assert questions == []


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(OctavoError, match=r"pip install 'octavo\[hub\]'"):
        octavo.load("hub:owner/name")


def test_a_real_cache_is_read_without_a_hub(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, commit = tmp_path / "cache", "0" * 40
    repository = cache / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(published, repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert octavo.load("hub:owner/name").model_type == "qwen3"
