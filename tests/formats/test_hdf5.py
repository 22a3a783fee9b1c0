"""The HDF5 reader against the HDF5 library, on what Keras could write and on what it never would."""

import contextlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import OctavoError
from octavo.formats import hdf5

from ..conftest import GOLDEN

DTYPES = ("<f4", ">f4", "<f8", ">f8", "<f2", "<i8", ">i4", "<u1", "<u4")


def written(write: Callable[[Any], Any], **options: Any) -> bytes:
    """The bytes of a file that the library made."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        write(file)
    return buffer.getvalue()


def by_library(data: bytes) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Arrays, and attributes that are text, as h5py reads them."""
    arrays: dict[str, Any] = {}
    with h5py.File(io.BytesIO(data)) as file:
        attributes = {"": texts(file)}

        def visit(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                arrays[name] = node[()]
            else:
                attributes[name] = texts(node)

        file.visititems(visit)
    return arrays, attributes


def texts(node: Any) -> dict[str, Any]:
    found = {}
    for name, value in node.attrs.items():
        if isinstance(value, str | bytes):
            found[name] = value if isinstance(value, str) else value.decode()
        elif value.dtype.kind in "OS":
            found[name] = [x.decode() if isinstance(x, bytes) else x for x in value.tolist()]
    return found


def require_equal(data: bytes) -> None:
    contents = hdf5.read(data)
    arrays, attributes = by_library(data)
    assert contents.attributes == attributes
    assert not contents.unread
    assert contents.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert contents.arrays[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(contents.arrays[name], array)


names = st.text(st.characters(codec="utf-8", exclude_characters="/.\0"), min_size=1, max_size=12)
arrays = st.builds(
    lambda shape, dtype, seed: np.random.default_rng(seed).integers(0, 99, shape).astype(dtype),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
attributes = st.one_of(
    names,
    st.lists(names, min_size=1, max_size=5),
    names.map(lambda text: np.bytes_(text.encode())),
    st.lists(names.map(str.encode), min_size=1, max_size=5).map(np.asarray),
)
ascii_names = st.text("abcXYZ_019:", min_size=1, max_size=12)


def groups(node: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Many members, or a few whose names go beyond ASCII, which HDF5 lists in another way."""
    return st.dictionaries(ascii_names, node, max_size=20) | st.dictionaries(names, node, max_size=8)


trees = groups(st.recursive(arrays, groups, max_leaves=20))


@settings(max_examples=60, deadline=None)
@given(trees, st.dictionaries(names, attributes, max_size=6))
def test_whatever_tree_the_library_writes_is_read_as_it_reads_it(tree: Any, notes: Any) -> None:
    def write(group: Any, tree: Any) -> None:
        for name, node in tree.items():
            if isinstance(node, dict):
                write(group.create_group(name), node)
            else:
                group[name] = node

    def write_all(file: Any) -> None:
        write(file, tree)
        for name, value in notes.items():
            if not (isinstance(value, np.ndarray) and value.dtype.itemsize == 0):
                file.attrs[name] = value

    require_equal(written(write_all))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("keras?/*.h5")), ids=lambda path: path.name)
def test_files_of_keras_are_read_as_the_library_reads_them(path: Any) -> None:
    require_equal(path.read_bytes())


def test_many_members_and_long_texts() -> None:
    """Groups of several B-tree levels, header continuations and heaps of their own."""

    def write(file: Any) -> None:
        for i in range(700):
            file.create_dataset(f"layer_{i}", data=np.float32(i))
        for i in range(40):
            file.attrs[f"note{i}"] = f"{i}" * 300
        file.attrs["model_config"] = "x" * 100_000

    require_equal(written(write))


def test_brain_floats_are_read_as_keras_stores_them() -> None:
    with zipfile.ZipFile(GOLDEN / "keras3" / "bfloat16.keras") as archive:
        contents = hdf5.read(archive.read("model.weights.h5"))
    with np.load(GOLDEN / "keras3" / "bfloat16.npz") as expected:
        np.testing.assert_array_equal(contents.arrays["layers/dense/vars/0"], expected["kernel"])


def external(file: Any) -> None:
    file.create_dataset("x", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "y", (4,))
    file.create_virtual_dataset("x", layout)


UNREAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "soft link": (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "is a link"),
    "external array": (external, "another file"),
    "virtual array": (virtual, "compressed or in chunks"),
    "chunks": (lambda file: file.create_dataset("x", data=np.ones(9), chunks=(3,)), "in chunks"),
    "compressed": (lambda file: file.create_dataset("x", data=np.ones(9), compression="gzip"), "compressed"),
    "compound": (lambda file: file.create_dataset("x", (2,), [("a", "f4"), ("b", "i4")]), "no plain numbers"),
    "texts": (lambda file: file.create_dataset("x", data=["a", "b"]), "no plain numbers"),
    "complex": (lambda file: file.create_dataset("x", data=np.ones(2, "c8")), "no plain numbers"),
    "references": (lambda file: file.create_dataset("x", (2,), h5py.ref_dtype), "no plain numbers"),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_what_keras_never_writes_is_noted_and_not_read(kind: str) -> None:
    write, reason = UNREAD[kind]
    contents = hdf5.read(written(lambda file: (write(file), file.create_dataset("z", data=np.ones(2)))))
    assert reason in contents.unread["x"]
    assert list(contents.arrays) == ["z"]


def test_small_arrays_in_headers_are_read() -> None:
    def write(file: Any) -> None:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, how).write(space, space, np.ones(3, "f4"))
        file["null"] = h5py.Empty("f4")

    contents = hdf5.read(written(write))
    assert contents.arrays["x"].tolist() == [1, 1, 1]
    assert contents.arrays["null"].size == 0


def test_groups_too_deep_are_refused() -> None:
    with pytest.raises(OctavoError, match="too deep"):
        hdf5.read(written(lambda file: file.create_group("/".join(["group"] * 300))))


def test_paths_longer_than_the_file_are_refused(peak_memory: Callable[[Callable[[], Any]], int]) -> None:
    def write(file: Any) -> None:
        group = file.create_group("g" * 1000)
        for i in range(3000):
            group[str(i)] = h5py.SoftLink("x")

    data = written(write)

    def read() -> None:
        with pytest.raises(OctavoError, match="paths longer than itself"):
            hdf5.read(data)

    assert peak_memory(read) < 3 * len(data)


def test_many_names_beyond_ascii_are_noted() -> None:
    contents = hdf5.read(written(lambda file: [file.create_group(f"é{i}") for i in range(9)]))
    assert "beyond ASCII" in contents.unread[""]


def test_an_external_link_is_refused_or_noted() -> None:
    data = written(lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/y")))
    assert not hdf5.read(data).arrays


def test_a_group_inside_itself_ends() -> None:
    data = written(lambda file: file.create_group("a").__setitem__("b", file))
    with pytest.raises(OctavoError, match="two names"):
        hdf5.read(data)


def test_newer_layouts_are_refused_with_what_to_do() -> None:
    with pytest.raises(OctavoError, match="save the model again with Keras"):
        hdf5.read(written(lambda file: file.create_group("a"), libver="latest"))


def test_a_huge_declared_shape_allocates_nothing(peak_memory: Callable[[Callable[[], Any]], int]) -> None:
    data = bytearray(written(lambda file: file.create_dataset("x", data=np.zeros((3, 5), "f4"))))
    at = data.index(np.array([3, 5], "<u8").tobytes())
    data[at : at + 16] = np.array([2**31, 2**31], "<u8").tobytes()

    def read() -> None:
        with pytest.raises(OctavoError, match="larger than its place"):
            hdf5.read(bytes(data))

    assert peak_memory(read) < 1_000_000


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_nothing_but_our_error(data: Any) -> None:
    path = data.draw(st.sampled_from(sorted(GOLDEN.glob("keras?/gru*.h5"))))
    content = bytearray(path.read_bytes())
    filled = [i for i, byte in enumerate(content) if byte]
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.sampled_from(filled))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([None, None, -1, 5000]))
    with contextlib.suppress(OctavoError):
        contents = hdf5.read(bytes(content[:end]))
        assert sum(array.nbytes for array in contents.arrays.values()) <= len(content)
