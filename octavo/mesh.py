"""Where the numbers of a training run live: devices in a mesh, hosts that train together.

A mesh has two axes. Along `data` every device learns from its own rows of a batch and holds all
parameters; along `model` the matrices are cut (Shoeybi et al. 2019, section 3): those that feed heads and
hidden units by rows, those that gather them again by columns, so that a layer needs one sum of
activations for each pair. What is cut and how stands in `RULES`; the XLA compiler derives the
communication (Xu et al. 2021, GSPMD).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from octavo.checks import cores
from octavo.errors import OctavoError
from octavo.nn import Array

AXES = ("data", "model")

RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"(q|k|v|gate|up)_proj\.weight$|w[qkv]\.weight$|W_[QKV1]$|feed_forward\.0\.weight$", ("model", None)),
    (r"(o|down)_proj\.weight$|wo\.weight$|W_[O2]$|feed_forward\.2\.weight$", (None, "model")),
    (r"c_(attn|fc)\.weight$", ("model", None)),
    (r"c_proj\.weight$", (None, "model")),
    (r"c_(attn|fc)\.bias$|b_1$|weight_[ih]h$|bias_[ih]h$", ("model",)),
    (r"(embed\w*|wte|lm_head|fc_out)\.weight$|W_E$", ("model", None)),
)
"""A pattern of parameter names and the mesh axis that each axis of the array is cut along; the first
that fits counts, and what no rule names, or what an axis does not divide, every device holds whole."""


def parse(spec: str) -> dict[str, int]:
    """The sizes of a mesh's axes.

    Examples
    --------
    >>> parse("data=4"), parse("data=2,model=2")
    ({'data': 4}, {'data': 2, 'model': 2})
    """
    found: dict[str, int] = {}
    for item in spec.split(","):
        name, _, size = item.partition("=")
        if name.strip() not in AXES or not size.strip().isdecimal() or int(size) < 1 or name.strip() in found:
            raise OctavoError(f"a mesh is data=N, model=N or both between a comma, not {spec!r}")
        found[name.strip()] = int(size)
    return found


def make(sizes: dict[str, int] | None) -> Any:
    """A `jax.sharding.Mesh` of the devices; without sizes, of one device, or of all if there are hosts."""
    import jax

    if sizes is None:
        sizes = {"data": jax.device_count() if jax.process_count() > 1 else 1}
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    need, have = shape[0] * shape[1], jax.device_count()
    if need > have or (jax.process_count() > 1 and need != have):
        spelled = " x ".join(f"{n} {axis}" for axis, n in zip(AXES, shape, strict=True))
        more = f"; XLA_FLAGS=--xla_force_host_platform_device_count={need} has a CPU pretend to be so many"
        pretended = more if jax.default_backend() == "cpu" and jax.process_count() == 1 else ""
        raise OctavoError(f"a mesh of {spelled} needs {need} devices, and there are {have}{pretended}")
    devices = jax.devices()[:need]
    return jax.make_mesh(shape, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2, devices=devices)


def named(spec: str) -> dict[str, int]:
    """The sizes of a mesh that is named; of a CPU's cores so many become devices, as far as it has them."""
    sizes = parse(spec)
    divide(min(math.prod(sizes.values()), cores()))
    return sizes


def own(batch: int) -> dict[str, int] | None:
    """The sizes of the mesh of a run that names none: of a CPU, a device for each core, with equal rows."""
    import jax

    divide(most(cores(), batch))
    if jax.process_count() > 1 or jax.default_backend() != "cpu":
        return None
    return {"data": most(jax.device_count(), batch)}


def divide(devices: int) -> None:
    """Make so many devices of a CPU, if there are none yet, and nobody has said how many there are to be.

    XLA's CPU devices share out small operations over threads at a loss: a step of a small model takes
    less time on one thread than on two. So each device gets cores of its own.
    """
    import jax

    config: Any = jax.config
    said = config.jax_num_cpu_devices >= 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if said or jax.distributed.is_initialized():
        return
    try:
        config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # there are devices already
        return
    with threads(cores() // devices):
        jax.devices()


def most(devices: int, rows: int) -> int:
    """How many of the devices can have equal shares of the rows.

    Examples
    --------
    >>> most(16, 4), most(3, 4), most(2, 32)
    (4, 2, 2)
    """
    return next(n for n in range(min(devices, rows), 0, -1) if rows % n == 0)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """While a CPU device is made, the variable from which XLA takes how many threads it gets."""
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = before or str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["NPROC"]


def placement(mesh: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Where a parameter lives, or an array of an optimizer's state that ends with the parameter's name.

    Examples
    --------
    >>> tuple(placement(make(None), "layers.0.feed_forward.0.weight", (8, 4)).spec)
    ('model', None)
    """
    spec: tuple[str | None, ...] = next((axes for rule, axes in RULES if re.search(rule, name)), ())
    fits = len(spec) <= len(shape) and all(
        axis is None or size % mesh.shape[axis] == 0 for axis, size in zip(spec, shape, strict=False)
    )
    return _cut(mesh, *spec if fits else ())


def whole(mesh: Any) -> Any:
    """The placement of what every device holds."""
    return _cut(mesh)


def rows(mesh: Any, axis: int = 0) -> Any:
    """The placement of a batch, cut by its rows, which are its axis number `axis`."""
    return _cut(mesh, *[None] * axis, "data")


def _cut(mesh: Any, *axes: str | None) -> Any:
    from jax.sharding import NamedSharding, PartitionSpec

    return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]


def put(array: Array, where: Any) -> Array:
    """A NumPy array, the same on every host, as an array of the mesh: each host keeps its part."""
    import jax

    return jax.make_array_from_callback(array.shape, where, lambda part: array[part])


def gather(array: Array) -> Array:
    """The whole of an array of the mesh as a NumPy array, on every host."""
    import numpy as np

    if array.is_fully_addressable:
        return np.array(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


# ---------------------------------------------------------------- hosts

CLUSTERS: dict[str, Callable[[str], bool]] = {
    "SLURM_NTASKS": lambda value: value.isdecimal() and int(value) > 1,
    "OMPI_COMM_WORLD_SIZE": lambda value: value.isdecimal() and int(value) > 1,
    "JOB_COMPLETION_INDEX": lambda value: "KUBERNETES_SERVICE_HOST" in os.environ,
    "TPU_WORKER_HOSTNAMES": lambda value: "," in value,
}
"""Variables by which a launcher says that this process is one of several that train together."""


def in_cluster() -> bool:
    """Whether a launcher that JAX knows has started several processes."""
    return any(name in os.environ and several(os.environ[name]) for name, several in CLUSTERS.items())


def connect(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Join the other processes of a run, if there are any; before anything else touches a device.

    Raises
    ------
    OctavoError
        If only part of the three is said, or the others cannot be reached.
    """
    said = [x for x in (coordinator, processes, process_id) if x is not None]
    if not said and not in_cluster():
        return
    if said and len(said) < 3:
        raise OctavoError("say --coordinator HOST:PORT, --processes N and --process-id I together")
    if coordinator is not None and not re.fullmatch(r"[^\s:]+:\d+|\[[^\s]+\]:\d+", coordinator):
        raise OctavoError(f"a coordinator is HOST:PORT, not {coordinator!r}")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise OctavoError(f"--process-id counts from 0 to {processes - 1}, and {process_id} does not")
    import jax

    try:
        jax.distributed.initialize(coordinator, processes, process_id, initialization_timeout=120)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OctavoError(f"cannot join the other processes of this run: {reason}") from None


def leads() -> bool:
    """Whether this process writes and reports: the first, or the only one, which makes no device to know."""
    import jax

    return not jax.distributed.is_initialized() or bool(jax.process_index() == 0)


def agree(stop: bool, *seconds: float) -> tuple[bool, list[float]]:
    """Whether any process is to stop, and what the first has measured: the same answer on all of them."""
    import jax

    if jax.process_count() == 1:
        return stop, list(seconds)
    import numpy as np
    from jax.experimental import multihost_utils

    said = multihost_utils.process_allgather(np.array([stop, *seconds]))  # [processes, N], in float32
    return bool(said[:, 0].any()), said[0, 1:].tolist()
