"""A team of threads that runs programs: one compiled instruction after the other, each by all threads.

Between two steps of a text the threads wait in compiled code for a moment, since the next step usually comes
at once, and then go to sleep. A thread that waits for another lets others have its processor after a while,
so a busy machine is slow but never stuck.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from octavo.fast import code
from octavo.fast.frame import FAILED, FRAME, MORE, MOST, SLEEPING, TURN
from octavo.fast.packed import address
from octavo.nn import Array


class Team:
    """The threads of this process that run programs; the first of them is whoever asks."""

    def __init__(self) -> None:
        self.shared = np.zeros(SLEEPING + MOST, np.int64)
        self.at = address(self.shared)
        code.keep_for_ever(self.shared)
        self.wake = [threading.Semaphore(0)]
        self.lock = threading.Lock()

    def run(self, told: Array, threads: int, how: str = "lead", at: int = 0) -> int:
        """Run a program, by what `told` makes of it; whoever else asks waits until it is done.

        `how` is what the first thread does, and `at` what it is told of that; what it returns.
        """
        with self.lock:
            shared = self.shared
            while len(self.wake) < threads:
                self.join()
            shared[FRAME : FAILED + 1] = told
            try:
                code.function("begin")(self.at, 0, 0)
                for thread in range(1, threads):
                    if shared[SLEEPING + thread]:
                        shared[SLEEPING + thread] = 0
                        self.wake[thread].release()
                done = code.function(how)(self.at, at, 0)
            finally:
                shared[MORE] = 0
            if shared[FAILED]:
                raise RuntimeError("an instruction failed")
            return done

    @staticmethod
    def told(frame: Array, words: Array) -> Array:
        """What a team is told of a program: its frame, and its instructions [N, words]."""
        return np.array([address(frame), address(words), len(words), words.strides[0], 0, 0, 0])

    def join(self) -> None:
        """One more thread."""
        thread, wake = len(self.wake), threading.Semaphore(0)
        at = self.at
        turn, follow = int(self.shared[TURN]), code.function("follow")

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
