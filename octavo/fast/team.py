"""A team of threads that runs programs: one compiled instruction after the other, each by all threads.

Between two steps of a text the threads wait in compiled code for a moment, since the next step usually comes
at once, and then go to sleep. A thread that waits for another lets others have its processor after a while,
so a busy machine is slow but never stuck.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from octavo.fast.instructions import FUNCTION, THREADS, WAITS
from octavo.fast.machine import breathe, call, count, longs, look, put, step_aside
from octavo.fast.packed import address
from octavo.kernels import compiled
from octavo.nn import Array

# what a team shares: the number of the program and of its threads, its frame, its instructions, how many and
# how many bytes each has, how often threads have met, how many have finished, and of each whether it sleeps
TURN, FRAME, PROGRAM, COUNT, SIZE, MET, FINISHED, SLEEPING = range(8)
MOST = 256  # threads there can be, and one more
PATIENCE = 2000  # looks before a thread lets others have its processor
WAKEFUL = 20000  # looks between two programs before it sleeps


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
        call(longs(args)[FUNCTION], frame, args, thread)
    count(shared + 8 * FINISHED)


@compiled
def begin(shared: int, threads: int) -> None:
    """Let all threads see that there is a program, and how many of them it is for."""
    put(shared + 8 * TURN, (longs(shared)[TURN] // MOST + 1) * MOST + threads)


@compiled
def lead(shared: int) -> None:
    """Run the program as the first thread, and wait for the others."""
    threads = longs(longs(shared)[FRAME])[THREADS]
    perform(shared, 0)
    wait(shared + 8 * FINISHED, threads)


@compiled
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


class Team:
    """The threads of this process that run programs; the first of them is whoever asks."""

    def __init__(self) -> None:
        self.shared = np.zeros(SLEEPING + MOST, np.int64)
        self.wake = [threading.Semaphore(0)]
        self.lock = threading.Lock()

    def run(self, frame: Array, words: Array) -> None:
        """Run a program of instructions [N, words]; whoever else asks waits until it is done."""
        with self.lock:
            shared, threads = self.shared, int(frame[THREADS])
            while len(self.wake) < threads:
                self.join()
            shared[FRAME : FINISHED + 1] = address(frame), address(words), *words.shape, 0, 0
            shared[SIZE] *= words.itemsize
            begin(address(shared), threads)
            for thread in range(1, threads):
                if shared[SLEEPING + thread]:
                    shared[SLEEPING + thread] = 0
                    self.wake[thread].release()
            lead(address(shared))

    def join(self) -> None:
        """One more thread."""
        thread, wake = len(self.wake), threading.Semaphore(0)
        at = address(self.shared)
        turn = int(self.shared[TURN])

        def serve() -> None:
            done = turn
            while True:
                done = follow(at, thread, done)
                if self.shared[SLEEPING + thread]:
                    wake.acquire()

        threading.Thread(target=serve, daemon=True, name=f"octavo-{thread}").start()
        self.wake.append(wake)


TEAM = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.__init__)  # type: ignore[misc]  # threads do not come along
