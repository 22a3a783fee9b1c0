"""Many devices and many hosts: the same losses, and checkpoints that travel between meshes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import octavo
from octavo import OctavoError, checkpoint, mesh, models
from octavo.checks import cores

SCRIPT = Path(__file__).with_name("devices.py")
CORES = cores()
Losses = list[list[float]]


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> list[Any]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in out.splitlines()]


def kill_after(step: int, *processes: subprocess.Popen[str]) -> None:
    """Kill them all when the first has come so far."""
    assert processes[0].stdout is not None
    for line in processes[0].stdout:
        if json.loads(line)[0] == step:
            break
    for process in processes:
        process.kill()
        process.communicate()


def by_mesh(lines: list[Any]) -> dict[str, Losses]:
    """The losses of each run, by its mesh."""
    found: dict[str, Losses] = {}
    run: Losses = []
    for line in lines:
        if isinstance(line, str):
            found[line], run = run, []
        else:
            run.append(line)
    return found


@pytest.mark.parametrize("model_type", ["plain", "gru", "folio"])
def test_every_mesh_gives_the_losses_of_one_device(model_type: str) -> None:
    specs = ["data=1", "data=8", "model=4", "data=4,model=2", "data=2,model=4"]
    found = by_mesh(finish(start("-", model_type, "12", ";".join(specs))))
    assert list(found) == specs
    expected = np.array(found["data=1"], float)
    assert expected[-1, 1] < expected[1, 1] - 0.02, "nothing was learned"
    for spec in specs[1:]:
        np.testing.assert_allclose(np.array(found[spec], float), expected, rtol=2e-4, err_msg=spec)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pair(out: Path, steps: int, spec: str) -> list[subprocess.Popen[str]]:
    """Two processes that train together over the loopback."""
    host = f"127.0.0.1:{free_port()}"
    return [start(str(out), "plain", str(steps), spec, host, "2", str(i)) for i in range(2)]


def test_two_processes_train_are_killed_and_resume_on_another_mesh(tmp_path: Path) -> None:
    whole = by_mesh(finish(start("-", "plain", "30", "data=1")))["data=1"]
    out = tmp_path / "model"
    both = pair(out, 30, "data=2,model=2")
    kill_after(9, *both)
    kept = checkpoint.latest(out)
    assert kept is not None
    assert 5 < int(kept.name) < 30
    assert {p.name for p in kept.iterdir()} == {"run.json", "0.safetensors", "1.safetensors"}

    both = pair(out, 20, "data=4")  # of another length, which is refused in one line
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "a run with steps 30, not 20" in errors

    first, second = [finish(process) for process in pair(out, 30, "data=4")]
    assert second == first
    assert first[0][0] == int(kept.name) + 1
    np.testing.assert_allclose(
        np.array(first[:-1], float)[:, 1], np.array(whole[first[0][0] - 1 :], float)[:, 1], rtol=2e-4
    )
    assert octavo.load(out).count() == octavo.load(out / "last").count()


def test_a_checkpoint_of_one_device_goes_on_on_many(tmp_path: Path) -> None:
    whole = by_mesh(finish(start("-", "gru", "20", "data=1")))["data=1"]
    out = tmp_path / "model"
    kill_after(9, start(str(out), "gru", "20", "data=1"))
    rest = by_mesh(finish(start(str(out), "gru", "20", "data=2,model=4")))["data=2,model=4"]
    assert rest[0][0] > 5
    expected = np.array(whole[int(rest[0][0]) - 1 :], float)
    np.testing.assert_allclose(np.array(rest, float)[:, 1], expected[:, 1], rtol=2e-4)


# ---------------------------------------------------------------- unasked


@pytest.mark.parametrize(
    ("flags", "batch", "devices"),
    [("", 4, mesh.most(CORES, 4)), ("", 1, 1), ("--xla_force_host_platform_device_count=6", 9, 3)],
)
def test_a_run_that_names_no_mesh_has_a_device_for_each_core(flags: str, batch: int, devices: int) -> None:
    asks = (  # who leads is asked before, which makes no device yet
        f"import os; from octavo import mesh; print(mesh.leads(), mesh.own({batch}), os.environ.get('NPROC'))"
    )
    said = {name: value for name, value in os.environ.items() if name != "NPROC"} | {"XLA_FLAGS": flags}
    answer = subprocess.run(
        [sys.executable, "-c", asks], env=said, capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"True {{'data': {devices}}} None\n"


def test_a_mesh_that_is_named_has_a_device_for_each_core() -> None:
    asks = f"from octavo import mesh; print(dict(mesh.make(mesh.named('data={CORES}')).shape))"
    said = {name: value for name, value in os.environ.items() if name != "NPROC"} | {"XLA_FLAGS": ""}
    answer = subprocess.run(
        [sys.executable, "-c", asks], env=said, capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"{{'data': {CORES}, 'model': 1}}\n"


def test_a_mesh_of_more_than_there_are_says_how_a_cpu_has_more() -> None:
    many = 2 * jax.device_count() + CORES
    with pytest.raises(OctavoError, match=f"needs {many} devices.*host_platform_device_count={many}"):
        mesh.make(mesh.named(f"data={many}"))


def test_devices_that_are_there_are_used_as_they_are() -> None:
    jax.devices()
    assert mesh.own(5 * jax.device_count()) == {"data": jax.device_count()}


# ---------------------------------------------------------------- rules


def test_every_matrix_between_hidden_vectors_is_cut() -> None:
    from octavo.optimizer import HIDDEN

    where = mesh.make(None)
    for model_type, module in models.ARCHITECTURES.items():
        table = module.shapes(models.design(model_type, 32))
        hidden = [name for name in table if HIDDEN.search(name)]
        assert hidden, model_type
        for name in hidden:
            assert "model" in mesh.placement(where, name, table[name]).spec, name
        for name, shape in table.items():
            if len(shape) == 1 and "bias" not in name and "b_1" not in name:  # gains, frequencies
                assert mesh.placement(where, name, shape).spec == PartitionSpec(), name


def test_an_optimizer_s_arrays_lie_where_their_parameters_do() -> None:
    where = mesh.make(None)
    name = "layers.0.feed_forward.2.weight"
    assert mesh.placement(where, f"memory.1.mu.{name}", (4, 8)).spec == PartitionSpec(None, "model")
    assert mesh.placement(where, "memory.1.count", ()).spec == PartitionSpec()


NO_MESHES = ["", "data", "data=0", "data=-1", "rows=2", "data=2,data=2", "data=2;model=2"]


@pytest.mark.parametrize("spec", NO_MESHES)
def test_a_mesh_that_is_none(spec: str) -> None:
    with pytest.raises(OctavoError, match="a mesh is"):
        mesh.parse(spec)


def test_more_devices_than_there_are() -> None:
    with pytest.raises(OctavoError, match=r"needs 64 devices, and there are \d+"):
        mesh.make({"data": 32, "model": 2})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("host:1", None, None), "together"),
        (("host:1", 2, None), "together"),
        (("host", 2, 0), "HOST:PORT"),
        (("host:1", 2, 2), "counts from 0 to 1"),
    ],
)
def test_hosts_that_cannot_be_meant(options: tuple[Any, ...], named: str) -> None:
    with pytest.raises(OctavoError, match=named):
        mesh.connect(*options)


def test_a_launcher_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in mesh.CLUSTERS:
        monkeypatch.delenv(name, raising=False)
    assert not mesh.in_cluster()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not mesh.in_cluster()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert mesh.in_cluster()
    called: list[Any] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **_: called.append(args))
    mesh.connect(None, None, None)
    assert called == [(None, None, None)]
    monkeypatch.delenv("SLURM_NTASKS")
    mesh.connect(None, None, None)
    assert len(called) == 1
