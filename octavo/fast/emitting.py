"""What LLVM's builder has no word for: loops, cells for what changes in them, functions of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir


def outer(builder: Any, type_: Any, name: str) -> Any:
    """A function of LLVM or of the C library, by its name."""
    return builder.module.globals.get(name) or ir.Function(builder.module, type_, name)


def cell(builder: Any, type_: Any) -> Any:
    """A cell for a value that changes, which LLVM makes a register of."""
    with builder.goto_entry_block():
        return builder.alloca(type_)


@contextmanager
def counted(builder: Any, count: Any) -> Iterator[Any]:
    """What is to be written for every number from 0 to `count`; is given that number."""
    test, body, end = (builder.append_basic_block(name) for name in ("for", "each", "through"))
    before = builder.block
    builder.branch(test)
    builder.position_at_end(test)
    index = builder.phi(count.type)
    builder.cbranch(builder.icmp_signed("<", index, count), body, end)
    builder.position_at_end(body)
    yield index
    index.add_incoming(count.type(0), before)
    index.add_incoming(builder.add(index, count.type(1), flags=("nsw",)), builder.block)
    builder.branch(test)
    builder.position_at_end(end)
