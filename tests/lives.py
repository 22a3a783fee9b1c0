"""A training run in a process of its own, for the tests that kill it: prints a line per step.

    python lives.py OUT STEPS [MOMENT]

At MOMENT, the name of a place in the writing of a checkpoint, the process kills itself: the second time
that it comes there.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

TEXT = "to be or not to be, that is the question: " * 30
RUN: dict[str, Any] = {"model_type": "gru", "sizes": {"units": (7,)}, "context": 8, "batch": 2}
RUN["dropout"] = 0.2


def die_at(moment: str) -> None:
    """Have this process killed when it comes to a moment of `octavo.checkpoint.write` again."""
    import safetensors.numpy

    from octavo import checkpoint

    seen = 0

    def die(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    if moment == "half a file":
        inner = safetensors.numpy.save_file

        def half(arrays: Any, path: Path, **options: Any) -> None:
            inner(arrays, path, **options)
            if path.parent.name.startswith(checkpoint.PARTIAL):
                os.truncate(path, path.stat().st_size // (2 if seen else 1))
                die()

        safetensors.numpy.save_file = half
    elif moment == "before the rename":
        inner_replace = os.replace
        checkpoint.os.replace = lambda a, b: (
            die() if Path(a).name.startswith(checkpoint.PARTIAL) else None,
            inner_replace(a, b),
        )
    elif moment == "after the rename":
        inner_numbered = checkpoint._numbered

        def numbered(folder: Path) -> list[Path]:
            if threading.current_thread() is not threading.main_thread():  # that of the writer
                die()
            return inner_numbered(folder)

        checkpoint._numbered = numbered
    else:
        raise ValueError(moment)


def main() -> None:
    import octavo

    out, steps, *moment = sys.argv[1:]
    if moment:
        die_at(moment[0])
    octavo.train(
        TEXT,
        steps=int(steps),
        out=out,
        resume=True,
        save_every=0.0 if moment else 0.05,
        report=lambda now: print(now.step, flush=True),
        **RUN,
    )


if __name__ == "__main__":
    main()
