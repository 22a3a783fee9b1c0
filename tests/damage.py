"""Files damaged at random where it matters, for the tests and for bench/fuzz.py: from bytes to bytes."""

import io
import json
import pickletools
import random
import re
import struct
import zipfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any

Damage = Callable[[bytes, random.Random], bytes]

ODD: list[Any] = [None, True, -1, 0, 2**31, 2**63, 2**70, 1.5, "", "relu", "GRU", [], {}, [[]], "\n\x00"]
ODD += [float("nan"), float("inf"), 1e308]

NUMBERS = (0, 1, 2, 8, 9, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of the types of numbers

HOSTILE = (
    "{% for i in range(99999) %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% endfor %}",
    "{% if %}",
    "{% endif %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{{ '' * 0",
    "{{ 'a' * 10**10 }}",
    "{{ 10**10**10 }}",
    "{{ [[]] * 10**9 }}",
    "{{ 'x' | center(10**9) }}",
    "{{ messages | tojson * 9**9 }}",
    "{{ strftime_now('%' * 9999) }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ messages|attr('__class__') }}",
    "{{ ('{0.__class__}').format(1) }}",
    "{{ messages.append(1) }}",
    "{{ raise_exception('no') }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}",
    "{% set messages = messages * 99999 %}",
    "{% for a in messages recursive %}{{ loop(messages) }}",
    "\x00",
)  # pieces of templates that ask for too much, or for what is not theirs
WORDS = (
    "loop",
    "messages",
    "10**9",
    "range",
    "namespace",
    "self",
    "__class__",
    "|",
    "}}",
    "%}",
    "(",
    "[",
    "''",
    "-1",
)


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
            change = BY_SUFFIX.get(f".{name.rpartition('.')[2]}", disturbed)
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


def disturbed_pickle(content: bytes, rng: random.Random) -> bytes:
    """One to three opcodes of a pickle left out, repeated, moved, or with other bytes; nothing is run."""
    starts = [place for _, _, place in pickletools.genops(content) if place is not None]
    codes = [content[start:end] for start, end in pairwise([*starts, len(content)])]
    for _ in range(rng.randint(1, 3)):
        at, kind = rng.randrange(len(codes)), rng.random()
        code = codes.pop(at) if kind < 0.5 else codes[at]
        if kind < 0.2 or not code:
            continue
        if kind < 0.6:
            codes.insert(rng.randrange(len(codes) + 1), code)
        else:
            codes[at] = disturbed(code, rng)
    return b"".join(codes)


def disturbed_gguf(content: bytes, rng: random.Random) -> bytes:
    """One to three entries of the metadata, or rows of the table of tensors, changed about."""
    entries, rows, data = gguf_parts(content)
    for _ in range(rng.randint(1, 3)):
        parts = entries if rows == [] or (entries and rng.random() < 0.7) else rows
        if not parts:
            break
        at, kind = rng.randrange(len(parts)), rng.random()
        name, value = parts[at]
        if kind < 0.25:
            parts[at] = name, rng.choice(parts)[1]
        elif kind < 0.4:
            del parts[at]
        elif kind < 0.5:
            parts.append(rng.choice([parts[at], (rng.choice(parts)[0], value)]))
        elif kind < 0.8 and len(value) >= 4:
            parts[at] = name, with_odd_number(value, rng)
        else:
            parts[at] = (disturbed(name, rng), value) if kind > 0.95 else (name, disturbed(value, rng))
    counts = [len(rows), len(entries)]
    if rng.random() < 0.1:
        counts[rng.randrange(2)] = rng.choice(NUMBERS) % 2**64
    head = content[:8] + struct.pack("<QQ", *counts) + b"".join(n + v for n, v in [*entries, *rows])
    return head + bytes(-len(head) % 32) + data


def gguf_parts(content: bytes) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]], bytes]:
    """The entries of the metadata and the rows of the table, each as its name and the rest; and the data."""
    place = 24

    def took(size: int) -> bytes:
        nonlocal place
        place += size
        return content[place - size : place]

    def text() -> bytes:
        size = took(8)
        return size + took(int.from_bytes(size, "little"))

    def value(kind: bytes) -> bytes:
        code = int.from_bytes(kind, "little")
        if code == 9:
            inner, count = took(4), took(8)
            return inner + count + b"".join(value(inner) for _ in range(int.from_bytes(count, "little")))
        return text() if code == 8 else took(GGUF_SIZES[code])

    def entry() -> tuple[bytes, bytes]:
        name, kind = text(), took(4)
        return name, kind + value(kind)

    def row() -> tuple[bytes, bytes]:
        name, axes = text(), took(4)
        return name, axes + took(8 * int.from_bytes(axes, "little") + 12)

    tensors, entries = struct.unpack_from("<QQ", content, 8)
    found = [entry() for _ in range(entries)], [row() for _ in range(tensors)]
    return *found, content[-(-place // 32) * 32 :]


def with_odd_number(content: bytes, rng: random.Random) -> bytes:
    """A number of four or eight bytes written somewhere, as often as not at a multiple of four."""
    form = "<Q" if len(content) >= 8 and rng.random() < 0.5 else "<I"
    place = rng.randrange(len(content) - struct.calcsize(form) + 1)
    damaged = bytearray(content)
    number = rng.choice([*NUMBERS, rng.randrange(300)]) % 2 ** (8 * struct.calcsize(form))
    struct.pack_into(form, damaged, place & ~3 if rng.random() < 0.5 else place, number)
    return bytes(damaged)


def disturbed_header(content: bytes, rng: random.Random) -> bytes:
    """One to three of the numbers in the first bytes replaced, as in llama2.c's files."""
    head = content[:64]
    for _ in range(rng.randint(1, 3)):
        head = with_odd_number(head, rng)
    return head + content[64:]


def disturbed_template(content: bytes, rng: random.Random) -> bytes:
    """One to four pieces of a Jinja template left out, repeated, moved, or joined by hostile ones."""
    pieces = re.findall(r"{%.*?%}|{{.*?}}|{#.*?#}|[^{]+|{", content.decode(), re.DOTALL)
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(pieces) + 1), rng.random()
        if kind < 0.3 or not pieces:
            pieces.insert(at, rng.choice(HOSTILE))
        elif kind < 0.6:
            pieces.insert(at, rng.choice(pieces))
        elif kind < 0.8 and len(pieces) > 1:
            pieces.pop(at % len(pieces))
        else:
            at %= len(pieces)
            words = re.findall(r"\w+|\W", pieces[at])
            words[rng.randrange(len(words))] = rng.choice([*WORDS, *words])
            pieces[at] = "".join(words)
    return "".join(pieces).encode()


BY_SUFFIX: dict[str, Damage] = {
    ".json": disturbed_json,
    ".keras": disturbed_archive,
    ".npz": disturbed_archive,
    ".safetensors": disturbed_safetensors,
    ".jsonl": disturbed_lines,
    ".pt": disturbed_archive,
    ".pkl": disturbed_pickle,
    ".gguf": disturbed_gguf,
    ".bin": disturbed_header,
    ".jinja": disturbed_template,
}
"""What damages the structure of a kind of file; `disturbed` damages any."""
