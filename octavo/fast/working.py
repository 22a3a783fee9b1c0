"""What the threads of a team do, compiled: `octavo.fast.team` starts them and wakes them.

The first of them runs a program once (`lead`), or writes a text (`write`): a program and a draw, and again.
"""

from __future__ import annotations

from octavo.fast.compiling import compiled, named
from octavo.fast.drawing import drawn
from octavo.fast.frame import (
    BASE,
    BEFORE,
    BY_ROW,
    BY_STEP,
    COUNT,
    COUNTER,
    DRAW,
    ENDS,
    FAILED,
    FINISHED,
    FRAME,
    FUNCTION,
    LAST,
    LOGPROB,
    LOGPROBS,
    MET,
    MIXED,
    MODULUS,
    MORE,
    MOST,
    MOVES,
    MOVING,
    NUMBER,
    NUMBERS,
    PLACE,
    PROGRAM,
    SEEN,
    SIZE,
    SLEEPING,
    STEPS,
    THREADS,
    TIMES,
    TOKEN,
    TURN,
    WAITS,
    WIDENED,
    WRAP,
    WRITTEN,
)
from octavo.fast.machine import breathe, call, count, doubles, longs, look, octets, put, step_aside

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


@compiled
def run(shared: int) -> None:
    """Run the program as the first thread, with all others that it is for."""
    told = longs(shared)
    threads = longs(told[FRAME])[THREADS]
    told[MET] = told[FINISHED] = 0
    for i in range(told[COUNT]):
        longs(longs(told[PROGRAM] + i * told[SIZE])[COUNTER])[0] = 0
    put(shared + 8 * TURN, (told[TURN] // MOST + 1) * MOST + threads)
    perform(shared, 0)
    wait(shared + 8 * FINISHED, threads)


@named("begin")
def begin(shared: int, _: int, __: int) -> None:
    """Let all threads see that programs are coming."""
    put(shared + 8 * MORE, 1)


@named("lead")
def lead(shared: int, _: int, __: int) -> None:
    """Run the program once."""
    run(shared)


@named("write")
def write(shared: int, at: int, _: int) -> int:
    """Read a token, draw the next one, read that -> how many were drawn."""
    told, done = longs(at), 0
    draw, token, last, before = told[DRAW], told[TOKEN], told[LAST], told[BEFORE]
    while done < told[STEPS]:
        for i in range(told[MOVING]):
            move = longs(told[MOVES] + 8 * (TIMES + MIXED) * i)
            mixed = token * move[TIMES] + last * move[TIMES + 1] + before * move[TIMES + 2]
            row = mixed % WRAP % move[MODULUS]
            if move[WIDENED]:
                call(move[WIDENED], move[BASE], row, 0)
            else:
                longs(move[PLACE])[0] = move[BASE] + done * move[BY_STEP] + row * move[BY_ROW]
        run(shared)
        if longs(shared)[FAILED]:
            return done
        if told[NUMBERS]:
            doubles(draw)[NUMBER] = doubles(told[NUMBERS])[done]
        token, last, before = drawn(draw), token, last
        octets(longs(draw)[SEEN])[token] = 1
        longs(told[WRITTEN])[done] = token
        logprob = doubles(draw)[LOGPROB]
        doubles(told[LOGPROBS])[done] = logprob
        done += 1
        if octets(told[ENDS])[token] or logprob != logprob:
            return done
    return done


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
        if looks > PATIENCE and look(shared + 8 * MORE):  # who waits for the next one does not sleep
            looks = PATIENCE
            step_aside()
    put(shared + 8 * (SLEEPING + thread), 1)
    if look(shared + 8 * MORE):  # they began to come between the last look and now
        put(shared + 8 * (SLEEPING + thread), 0)
    return turn
