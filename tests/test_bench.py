"""The benchmarks run, small; what they measure is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def run(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(BENCH / args[0]), *args[1:]], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_accelerator_s_bench_runs_on_a_cpu() -> None:
    device, found = map(json.loads, run("gpu.py", "--tiny"))
    assert device["device"] == "cpu"
    assert device["peak"] is None
    assert found["tokens_per_second"] > 0
    assert found["model_flops_per_second"] == pytest.approx(
        (6 * found["parameters"] + 12 * 2 * 16 * 16) * found["tokens_per_second"]
    )
