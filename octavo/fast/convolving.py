"""The instruction of a short convolution, whose row needs the rows before it.

`octavo.nn.causal_conv` (So et al. 2021, Primer), with what it remembers of the rows before the first.

Own arguments: x, y, width, weights, steps that it looks back, which of the frame's addresses is that of what
is remembered, [B, steps, width]; the next is where the same goes for the next time.
"""

from __future__ import annotations

from octavo.fast.calls import carray
from octavo.fast.compiling import compiled, named
from octavo.fast.frame import BUFFERS, OWN, TIME
from octavo.fast.instructions import buffer, columns, own_rows
from octavo.fast.machine import longs, singles


@compiled
def copy(width: int, source: int, to: int) -> None:
    """Numbers from one address to another."""
    for i in range(width):
        singles(to)[i] = singles(source)[i]


@named("causal_conv")
def causal_conv(frame: int, args: int, thread: int) -> None:
    """As `octavo.nn.causal_conv`, of all rows of all sequences."""
    own, time = longs(args + 8 * OWN), longs(frame)[TIME]
    width, weights, steps, line = own[6], own[7], own[8], 4 * own[6]
    before, after = longs(frame)[BUFFERS + own[9]], longs(frame)[BUFFERS + own[9] + 1]
    for r in own_rows(frame, args, thread):
        t, first = r % time, r // time * steps
        x, y = columns(frame, args, 0, r, width), columns(frame, args, 3, r, width)
        for i in range(width):
            y[i] = x[i] * singles(weights)[i]
        for back in range(1, steps + 1):
            weight = singles(weights + line * back)
            at = before + line * (first + steps + t - back)
            if back <= t:
                at = buffer(frame, args, 0, r - back)
            z = carray(singles(at), (width,))
            for i in range(width):
                y[i] += z[i] * weight[i]
        place = t + steps - time
        if place >= 0:
            for i in range(width):
                singles(after + line * (first + place))[i] = x[i]
        if t == 0:
            for old in range(time, steps):
                copy(width, before + line * (first + old), after + line * (first + old - time))
