"""`octavo convert`: any model that octavo reads, as a model folder or as a GGUF file."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

import octavo
from octavo.cli import loading
from octavo.cli.options import Argument, Option
from octavo.cli.printing import console, emit, reachable, size
from octavo.errors import OctavoError
from octavo.formats.companions import LARGEST, read_json
from octavo.formats.folder import CONFIG, QUANTIZATION, refuse_existing
from octavo.quant import are_halves

EPILOG = """[bold]Examples[/bold]

octavo convert RNN_model.json RNN_model.h5 --chars train.txt --chars test.txt -o my-rnn

octavo convert w.npz bpe1024_enc_full.pkl --set n_heads=8 --out my-bard

octavo convert my-llama --out my-llama.gguf --dtype Q8_0

octavo convert my-llama --out my-small-llama --quantize q4"""

Kind = Literal["q8", "q4"]
Dtype = Literal["float16", "float32", "F16", "F32", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]
OF_FOLDERS = ("float16", "float32", "F16", "F32")
HDF5 = b"\x89HDF"
LARGEST_JSON = 2**26  # bytes


def run(
    sources: Annotated[
        list[str],
        Argument(
            help="A model (shipped, folder, .gguf, .json, .keras, .h5, .npz, .pt, .bin), and after it, if "
            "they are apart, its weights (.h5) and tokenizer (tokenizer.json, .pkl).",
            metavar="SOURCE",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        Option("--out", "-o", help="The new model folder, or a file: NAME.gguf.", metavar="PATH"),
    ],
    dtype: Annotated[
        Dtype | None,
        Option(
            help="The precision to store; a .gguf file takes all of them. \\[default: the source's]",
            case_sensitive=False,
        ),
    ] = None,
    quantize: Annotated[
        Kind | None,
        Option(
            help="Matrices in 8 bits a weight, or in 4 with embeddings and output in 8.", case_sensitive=False
        ),
    ] = None,
    json: loading.JsonOption = False,
    weights: loading.WeightsOption = None,
    tokenizer: loading.TokenizerOption = None,
    chars: loading.CharsOption = None,
    settings: loading.SetOption = None,
) -> None:
    """Write any model that octavo reads as a model folder, or as a GGUF file for llama.cpp."""
    if Path(out).suffix.lower() != ".gguf":  # a file is refused when it is written
        refuse_existing(Path(out))
    if dtype and quantize:
        raise OctavoError("say --dtype or --quantize, not both")
    _check_dtype(dtype, out)
    found = tell_apart(sources)
    weights, tokenizer = _one("weights", found, weights), _one("tokenizer", found, tokenizer)
    source = str(_one("model", found, None))
    model = loading.load_model(source, weights, tokenizer, chars, settings, quantize=quantize)
    octavo.save(model, out, dtype=dtype or (None if quantize else _own_dtype(model)))
    made = sorted(Path(out).iterdir()) if Path(out).is_dir() else [Path(out)]
    files = {path.name: path.stat().st_size for path in made}
    if json:
        emit({"out": out, "model_type": model.model_type, "parameters": model.count(), "files": files})
    else:
        _print(model, out, files)


def _check_dtype(dtype: str | None, out: str) -> None:
    """Refuse what only a GGUF file holds where a folder is to be written."""
    if dtype is not None and dtype not in OF_FOLDERS and Path(out).suffix.lower() != ".gguf":
        raise OctavoError(
            f"--dtype {dtype} is for a GGUF file, --out NAME.gguf; a folder holds float16 or float32, and "
            "fewer bits by --quantize q8 or q4"
        )


def _own_dtype(model: octavo.Model) -> str | None:
    """The source's precision, if it was half of the float32 that loading makes of it."""
    params = model.params.values()
    plain = all(isinstance(p, np.ndarray) and p.dtype == np.float32 for p in params)
    return "float16" if plain and all(map(are_halves, params)) else None


def tell_apart(sources: list[str]) -> dict[str, list[str]]:
    """Which sources are models, weights and tokenizers; an HDF5 file alone is a whole model."""
    found: dict[str, list[str]] = {"model": [], "weights": [], "tokenizer": []}
    for source in sources:
        found[_kind(source)].append(source)
    if not found["model"]:
        found["model"], found["weights"] = found["weights"], []
    return found


def _kind(source: str) -> str:
    path = Path(source)
    if not path.is_file():
        return "model"  # shipped, a folder, or missing: loading tells
    if path.suffix in (".pkl", ".pickle"):
        return "tokenizer"
    with path.open("rb") as file:
        start = file.read(4)
    if start == HDF5:
        return "weights"
    return "tokenizer" if path.suffix == ".json" and _is_tokenizer(path) else "model"


def _is_tokenizer(path: Path) -> bool:
    """Whether a JSON file is a tokenizer; Keras's architectures have a `class_name` instead."""
    try:
        content = json_module.loads(path.read_bytes()) if path.stat().st_size <= LARGEST_JSON else None
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "model" in content and "class_name" not in content


def _one(role: str, found: dict[str, list[str]], given: str | None) -> str | None:
    """The one file of a role, be it a source or the option's; None if there is none."""
    named = found[role] + ([given] if given is not None else [])
    if len(named) > 1:
        raise OctavoError(f"expected one {role}, found {' and '.join(named)}")
    if role == "model" and not named:
        raise OctavoError(
            "none of the sources is a model: give its .gguf, .json, .keras, .h5, .npz, or folder"
        )
    return named[0] if named else None


def _print(model: octavo.Model, out: str, files: dict[str, int]) -> None:
    screen = console()
    screen.print(f"wrote [bold]{out}[/bold]: {model.model_type}, {model.count():,} parameters")
    for name, count in files.items():
        screen.print(f"  {name:<20}{size(count):>12}", markup=False)
    if Path(out).is_dir() and QUANTIZATION in (read_json(Path(out) / CONFIG, LARGEST) or {}):
        screen.print("[dim]its blocks are octavo's to read; for others: NAME.gguf, or --dtype float32[/dim]")
    if model.tokenizer is None:
        screen.print("without a tokenizer it only knows ids; name one with --tokenizer or --chars")
    else:
        screen.print(f'next: octavo generate --model {reachable(out)} "..."', markup=False)
