"""A job of `octavo.engines` in a process of its own: started, listened to, timed, ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from octavo.errors import OctavoError

PROGRAM = Path(__file__).with_name("engines.py")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # what NumPy's BLAS may be told by


def run(name: str, python: str, job: dict[str, Any]) -> dict[str, Any]:
    """What an engine says of a job; the times are from the start of its process.

    Parameters
    ----------
    name : str
        A key of `octavo.engines.ENGINES`, or "memory".
    python : str
        The Python that has it.
    job : dict
        What it is to do; `octavo.bench.job_for` makes one.

    Raises
    ------
    OctavoError
        If the process cannot be started, fails, or ends without a figure.
    """
    env = os.environ | dict.fromkeys(THREADS, "1" if name == "memory" else str(job["threads"]))
    if name == "octavo":  # the one that is running, wherever it stands
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROGRAM.parents[1]), env.get("PYTHONPATH"))))
    command = [python, "-P", str(PROGRAM), name]
    found: dict[str, Any] = {}
    with tempfile.TemporaryFile() as complaints:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=env
            )
        except OSError as error:
            raise OctavoError(f"{name}: cannot start {python}: {error.strerror}") from None
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(BrokenPipeError):  # what has ended already says why below
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    process.stdin.close()
                for line in process.stdout:
                    _take(found, name, line, time.perf_counter() - started)
            finally:
                process.kill()
        if "figures" not in found:
            complaints.seek(0)
            last = complaints.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-1:]
            raise OctavoError(
                f"{name} ended with {process.returncode}: {' '.join(last) or 'it said nothing'}"
            )
    figures: dict[str, float] = found.pop("figures")
    return found | figures


def _take(found: dict[str, Any], name: str, line: bytes, seconds: float) -> None:
    """One line of an engine; what a library prints there is no object and is left aside."""
    try:
        told = json.loads(line)
    except ValueError:
        return
    if not isinstance(told, dict):
        return
    if "error" in told:
        raise OctavoError(f"{name}: {' '.join(str(told['error']).split())[:300]}")
    if "ready" in told:
        found |= {"version": told["ready"], "load": seconds}
    elif "first" in told:
        found["first"] = seconds
    elif "figures" in told:
        found["figures"] = told["figures"]
