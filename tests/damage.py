"""Files damaged at random where it matters, for the tests and for bench/fuzz.py: from bytes to bytes."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

Damage = Callable[[bytes, random.Random], bytes]

ODD: list[Any] = [None, True, -1, 0, 2**31, 2**63, 2**70, 1.5, "", "relu", "GRU", [], {}, [[]], "\n\x00"]
ODD += [float("nan"), float("inf"), 1e308]


def disturbed(content: bytes, rng: random.Random) -> bytes:
    """One to eight bytes changed, mostly such as are not zero, or the end cut off."""
    damaged = bytearray(content)
    filled = [i for i, byte in enumerate(damaged) if byte]
    for _ in range(rng.randint(1, 8) if filled else 0):
        place = rng.choice(filled) if rng.random() < 0.8 else rng.randrange(len(damaged))
        damaged[place] = rng.choice((0, 255, 128, rng.randrange(256), damaged[place] ^ 1 << rng.randrange(8)))
    return bytes(damaged[: rng.randrange(len(damaged))] if damaged and rng.random() < 0.1 else damaged)


def disturbed_json(content: bytes, rng: random.Random) -> bytes:
    """One to three values of a JSON text replaced by odd ones, by each other, or under another name."""
    try:
        value = json.loads(content)
    except ValueError:  # several of them
        return disturbed_lines(content, rng) if b"\n" in content.strip() else disturbed(content, rng)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    walk(value)
    if not places:
        return disturbed(content, rng)
    for _ in range(rng.randint(1, 3)):
        (node, key), kind = rng.choice(places), rng.random()
        if kind < 0.2 and isinstance(node, dict) and key in node:
            node[rng.choice(("", "@", "x@1:2,", "\n", "__metadata__"))] = node.pop(key)
        elif kind < 0.4:
            other, there = rng.choice(places)
            leaf = other.get(there) if isinstance(other, dict) else other[there]
            node[key] = leaf if not isinstance(leaf, dict | list) else json.loads(json.dumps(leaf))
        else:
            node[key] = rng.choice(ODD)
    return json.dumps(value).encode()


def disturbed_archive(content: bytes, rng: random.Random) -> bytes:
    """An archive with one or two members damaged, missing or a bomb, and checksums that fit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        names = source.namelist()
        chosen = rng.sample(names, min(len(names), rng.randint(1, 2)))
        for name in names:
            change = disturbed_json if name.endswith("json") else disturbed
            member, kind = source.read(name), rng.random() if name in chosen else 1.0
            if kind < 0.9:
                target.writestr(name, change(member, rng))
            elif kind < 0.91:
                target.writestr(name, member + bytes(2**26), zipfile.ZIP_DEFLATED)
            elif kind > 0.95:
                target.writestr(name, member)
    return buffer.getvalue()


def disturbed_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A file whose header is damaged, with a length that fits."""
    size = int.from_bytes(content[:8], "little")
    header = disturbed_json(content[8 : 8 + size].rstrip(), rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def disturbed_lines(content: bytes, rng: random.Random) -> bytes:
    """Lines of JSON, one of them damaged."""
    lines = content.split(b"\n")
    at = rng.choice([i for i, line in enumerate(lines) if line.strip()])
    lines[at] = disturbed_json(lines[at], rng)
    return b"\n".join(lines)


BY_SUFFIX: dict[str, Damage] = {
    ".json": disturbed_json,
    ".keras": disturbed_archive,
    ".npz": disturbed_archive,
    ".safetensors": disturbed_safetensors,
    ".jsonl": disturbed_lines,
}
"""What damages the structure of a kind of file; `disturbed` damages any."""
