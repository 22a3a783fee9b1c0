"""What bench/fuzz.py reads: for each format files that are right, and what reads them to the end."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo import checkpoint, idfile, models, templates, tokenizers
from octavo.errors import OctavoError
from octavo.formats import companions
from octavo.tokenizers import gguf

TESTS = Path(__file__).resolve().parents[1] / "tests"

GOLDEN = TESTS / "golden"
ALPHABET = "abcdefghijk"
CONVERSATION = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
CONVERSATION += [{"role": "user", "content": "c"}]


@dataclass(frozen=True)
class Reader:
    """Something that reads files: `make` puts good ones into a folder, `read` reads them."""

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]


def copied(pattern: str) -> Callable[[Path], None]:
    """Golden files, in the folder."""

    def make(folder: Path) -> None:
        for path in sorted(GOLDEN.glob(pattern)):
            shutil.copy(path, folder)

    return make


def own_folder(folder: Path) -> None:
    config = models.design("gru", len(ALPHABET), units=(4,))
    params = models.initial_params("gru", config, np.random.default_rng(0))
    made = octavo.Model("gru", config, params, tokenizers.char(ALPHABET))
    octavo.save(made, folder / "model")
    for path in (folder / "model").iterdir():
        path.rename(folder / path.name)
    (folder / "model").rmdir()


def byte_pairs(folder: Path) -> None:
    tokenizers.train_bpe("the theme of the thesis " * 9, 264).save(folder / "tokenizer.json")


def tiktoken_pickle(folder: Path) -> None:
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257}
    special = {"<|endoftext|>": 258}
    made = tiktoken.Encoding("t", pat_str=tokenizers.GPT2, mergeable_ranks=ranks, special_tokens=special)
    (folder / "encoding.pkl").write_bytes(pickle.dumps(made, 4))


def id_file(folder: Path) -> None:
    with open(folder / "text.ids", "wb") as file:
        writer = idfile.Writer(file, np.dtype("<u2"), "key")
        writer.add(np.arange(300, dtype="<u2").tobytes(), 3, 600)
        writer.close()


def kept_ids(folder: Path) -> None:
    if idfile.kept(folder / "text.ids", "key", lambda share: None) is None:
        raise OctavoError("not as it was written")


def saved_run(folder: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"a@0:4,0:3": np.ones((4, 3)), "a@4:8,0:3": np.zeros((4, 3)), "b@0:5": np.ones(5)}
    save_file(arrays, folder / "0.safetensors")
    run = {"format": checkpoint.FORMAT, "step": 7}
    (folder / checkpoint.RUN).write_text(json.dumps({"processes": 1}) + "\n" + json.dumps(run))


def whole_run(folder: Path) -> None:
    found = checkpoint.Checkpoint(folder)
    for name in found.names:
        found.read(name)


def keras(pattern: str, *weights: str) -> Reader:
    def read(folder: Path) -> None:
        path = next(folder.glob(pattern))
        octavo.load(path, weights=next((folder / name for name in weights), None))

    def make(folder: Path) -> None:
        for name in (pattern, *weights):
            copied(f"keras2/{name}")(folder)

    return Reader(make, read)


def used(path: Path) -> None:
    """A model, loaded and made to compute and to read text: what is mapped or made late is read too."""
    model = octavo.load(path)
    with np.errstate(all="ignore"):
        model.forward([0])
    if model.tokenizer is not None:
        with_text = "ab" if isinstance(model.tokenizer, tokenizers.chars.Char) else "the other 中"
        model.tokenizer.decode(model.tokenizer.encode(with_text))


def of_a_kind(suffix: str) -> Callable[[Path], None]:
    """Reads the one file that ends so."""

    def read(folder: Path) -> None:
        used(next(folder.glob(f"*{suffix}")))

    return read


def gguf_file(kind: str) -> Callable[[Path], None]:
    """Makes a GGUF file of a small Llama in blocks, with a vocabulary of that kind and a chat template."""

    def make(folder: Path) -> None:
        pieces = json.loads((GOLDEN / "tokenizers.json").read_text())["pieces"]
        if kind == "byte pairs":
            tokenizer: Any = tokenizers.train_bpe("the theme of the thesis " * 9, 264)
        else:
            tokenizer = gguf.from_metadata(pieces[kind]["metadata"])
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = models.design("llama", len(tokenizer), **sizes)
        params = models.initial_params("llama", config, np.random.default_rng(0))
        made = octavo.Model("llama", config, params, tokenizer, chat_template="{{ messages[0].content }}")
        octavo.save(made, folder / "model.gguf", dtype="Q4_1")

    return make


def shards(folder: Path) -> None:
    """A published folder whose weights stand in two files."""
    from safetensors.numpy import load_file, save_file

    copied("huggingface/llama-tied/config.json")(folder)
    arrays = load_file(GOLDEN / "huggingface/llama-tied/model.safetensors")
    places = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(sorted(arrays))}
    for place in set(places.values()):
        save_file({name: arrays[name] for name, at in places.items() if at == place}, folder / place)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def rendered(folder: Path) -> None:
    template = companions.read_chat_template(folder)
    if template is None:
        raise OctavoError("there is none")
    templates.render(template, CONVERSATION)


def one_template(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        shutil.copy(GOLDEN / "templates" / f"{name}.jinja", folder / companions.CHAT_TEMPLATE)

    return make


READERS = {
    "folder": Reader(own_folder, octavo.load),
    "llama folder": Reader(copied("huggingface/llama-tied/*"), octavo.load),
    "gpt2 folder": Reader(copied("huggingface/gpt2/*"), octavo.load),
    "npz": Reader(
        copied("torch_plain.npz"),
        lambda folder: octavo.load(folder / "torch_plain.npz", model_type="plain", n_heads=2),
    ),
    "keras h5": keras("gru.h5"),
    "keras archive": keras("gru.keras"),
    "keras json": keras("lstm.json", "lstm_weights.h5"),
    "tokenizer.json": Reader(byte_pairs, lambda folder: tokenizers.open(folder / "tokenizer.json")),
    "tiktoken pickle": Reader(tiktoken_pickle, lambda folder: tokenizers.open(folder / "encoding.pkl")),
    "gguf": Reader(gguf_file("byte pairs"), of_a_kind(".gguf")),
    **{f"gguf {kind}": Reader(gguf_file(kind), of_a_kind(".gguf")) for kind in ("llama", "unigram")},
    **{
        f"gguf {name}": Reader(copied(f"gguf/{name}.gguf"), of_a_kind(".gguf"))
        for name in ("gemma3", "gpt2", "llama-linear", "qwen3")
    },
    **{
        f"nanoGPT {name}": Reader(copied(f"karpathy/{name}.pt"), of_a_kind(".pt"))
        for name in ("compiled", "unbiased")
    },
    **{
        f"llama2.c {name}": Reader(copied(f"karpathy/{name}.bin"), of_a_kind(".bin"))
        for name in ("first", "float32", "int8")
    },
    "shards": Reader(shards, octavo.load),
    **{f"template {name}": Reader(one_template(name), rendered) for name in ("qwen", "llama3", "mistral")},
    "ids": Reader(id_file, kept_ids),
    "checkpoint": Reader(saved_run, whole_run),
}
