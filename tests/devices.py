"""Training on several devices, for the tests: prints a JSON line per step; eight virtual CPU devices.

python devices.py OUT MODEL STEPS MESH [COORDINATOR PROCESSES PROCESS_ID]
"""

import json
import os
import sys
from typing import Any

TEXT = "to be or not to be, that is the question: " * 30
SIZES: dict[str, dict[str, Any]] = {
    "plain": {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 32},
    "folio": {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 32, "window": 3},
    "gru": {"units": (8,)},
}
RUN: dict[str, Any] = {"context": 8, "batch": 8, "lr": 1e-2, "dropout": 0.0, "optimizer": "muon"}


def main() -> None:
    out, model_type, steps, mesh_sizes, *host = sys.argv[1:]
    count = 2 if host else 8  # a process
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}"
    import octavo
    from octavo import mesh
    from octavo.cli.train import own_stdout

    if host:
        own_stdout()
        mesh.connect(host[0], int(host[1]), int(host[2]))
    for spec in mesh_sizes.split(";"):
        octavo.train(
            TEXT,
            model_type=model_type,
            sizes=SIZES[model_type],
            steps=int(steps),
            out=None if out == "-" else out,
            resume=out != "-",
            mesh_sizes=spec or None,
            save_every=0.0,
            report=lambda now: print(json.dumps([now.step, now.loss, now.val_loss]), flush=True),
            **RUN,
        )
        print(json.dumps(spec), flush=True)


if __name__ == "__main__":
    main()
