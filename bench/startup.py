"""How long `octavo generate` takes from the shell to its first character, everything warm.

    python bench/startup.py [ROUNDS]

Each round starts a new process and waits for the first character after the prompt. Beside it stands what
Python alone, and Python with NumPy, take to start.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PROMPT = "ANTONIO:\nDo you not hear me speak?"


def first_character(command: list[str], after: int) -> float:
    """Seconds until a process has written more than `after` bytes, or has ended."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(after + 1)
        seconds = time.perf_counter() - started
        process.kill()
    return seconds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    python = [sys.executable]
    commands = {
        "python, doing nothing": ([*python, "-c", ""], 0),
        "python, importing numpy": ([*python, "-c", "import numpy"], 0),
        "octavo generate, first character of bard": (
            [*python, "-m", "octavo", "generate", PROMPT, "--seed", "1"],
            len(PROMPT),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, (command, after) in commands.items():
            found = first_character(command, after)
            if turn:  # the first round warms the files
                seconds[name].append(found)
    print("| start | median s | fastest s |")
    print("|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} |")


if __name__ == "__main__":
    main()
