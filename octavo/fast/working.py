"""What the threads of a team do, compiled: `octavo.fast.team` starts them and wakes them."""

from __future__ import annotations

from octavo.fast.compiling import compiled, named
from octavo.fast.frame import (
    COUNT,
    FAILED,
    FINISHED,
    FRAME,
    FUNCTION,
    MET,
    MOST,
    PROGRAM,
    SIZE,
    SLEEPING,
    THREADS,
    TURN,
    WAITS,
)
from octavo.fast.machine import breathe, call, count, longs, look, put, step_aside

PATIENCE = 2000  # looks before a thread lets others have its processor
WAKEFUL = 200000  # looks between two programs before it sleeps


@compiled
def wait(counter: int, expected: int) -> None:
    """Wait until a counter has come so far."""
    looks = 0
    while look(counter) < expected:
        looks += 1
        breathe()
        if looks > PATIENCE:
            step_aside()


@compiled
def perform(shared: int, thread: int) -> None:
    """Run the program, as one thread of all."""
    frame, program = longs(shared)[FRAME], longs(shared)[PROGRAM]
    threads = longs(frame)[THREADS]
    met = 0
    for i in range(longs(shared)[COUNT]):
        args = program + i * longs(shared)[SIZE]
        if longs(args)[WAITS] and threads > 1:
            met += threads
            count(shared + 8 * MET)
            wait(shared + 8 * MET, met)
        if call(longs(args)[FUNCTION], frame, args, thread):
            put(shared + 8 * FAILED, 1)
    count(shared + 8 * FINISHED)


@named("begin")
def begin(shared: int, threads: int, _: int) -> None:
    """Let all threads see that there is a program, and how many of them it is for."""
    put(shared + 8 * TURN, (longs(shared)[TURN] // MOST + 1) * MOST + threads)


@named("lead")
def lead(shared: int, _: int, __: int) -> None:
    """Run the program as the first thread, and wait for the others."""
    threads = longs(longs(shared)[FRAME])[THREADS]
    perform(shared, 0)
    wait(shared + 8 * FINISHED, threads)


@named("follow")
def follow(shared: int, thread: int, turn: int) -> int:
    """Run programs as they come, until there has been none for a while -> the number of the last."""
    looks = 0
    while looks < WAKEFUL:
        now = look(shared + 8 * TURN)
        if now != turn:
            turn, looks = now, 0
            if thread < turn % MOST:
                perform(shared, thread)
        looks += 1
        breathe()
    put(shared + 8 * (SLEEPING + thread), 1)
    if look(shared + 8 * TURN) != turn:  # one came between the last look and now
        put(shared + 8 * (SLEEPING + thread), 0)
    return turn
