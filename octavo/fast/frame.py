"""What programs and instructions agree on: where the numbers are that instructions are given.

An instruction takes the address of the frame, that of its own arguments, and the number of the thread. The
names of the instructions are those of the operations of `octavo.nn`; products are named by the kind of the
matrix, and what reads or writes a cache by its dtype.
"""

# the frame: numbers that all instructions share, then the addresses of the buffers
ROWS, TIME, FIRST, THREADS, SCRATCH, SCRATCH_SIZE, ROOM, POSITIONS, CHUNKS, PARTS, DONE, BUFFERS = range(12)
# the arguments of every instruction: its function, whether it waits for those before it, the counter of its
# pieces, whether it computes the last rows only; then its own
FUNCTION, WAITS, COUNTER, TAIL, OWN = range(5)
# what a team shares: the number of the program and of its threads, its frame, its instructions, how many and
# how many bytes each has, how often threads have met, how many have finished, whether an instruction failed,
# whether programs are coming, and of each thread whether it sleeps
TURN, FRAME, PROGRAM, COUNT, SIZE, MET, FINISHED, FAILED, MORE, SLEEPING = range(10)
MOST = 256  # threads there can be, and one more

# what a draw is given: where the model's logits are, which tokens have been seen, what is added to each or 0,
# room for the adjusted logits, for ids, weights, and the greatest logit of each block of tokens, how many
# tokens there are, are in a block, and may survive (0: the likeliest is taken), then in float64 the other
# options, the random number, and what it gives beside the token
MODEL, SEEN, BIAS, LOGITS, IDS, WEIGHTS, BESTS, VOCABULARY, BLOCK, TOP_K, *_DOUBLES = range(16)
PENALTY, TEMPERATURE, TOP_P, MIN_P, NUMBER, LOGPROB = _DOUBLES
# what writing several tokens is given: how many, the one to read first and the two before it, what the draw
# is given, its random numbers or 0, where the tokens go and the logarithms of their probabilities, which
# tokens end a text, where the moves are and how many
STEPS, TOKEN, LAST, BEFORE, DRAW, NUMBERS, WRITTEN, LOGPROBS, ENDS, MOVES, MOVING = range(11)
# a move: where a number is that changes from step to step, what it is at first, what each step adds to it,
# and the row of a table: the bytes of one, what the sum of the tokens is divided by, in 32 bits, what widens
# it or 0 (the first number is then where that is told of it), and how many times the token that is read is in
# it, and the two before it
PLACE, BASE, BY_STEP, BY_ROW, MODULUS, WIDENED, TIMES = range(7)
MIXED, WRAP = 3, 2**32  # tokens that may name a row; where their sum begins anew
PIECES = 8  # pieces of a product, for each thread
CHUNK = 128  # slots of a cache that attention takes as one
TOGETHER = 3  # heads that share what is read: twelve sums in sixteen registers

SINGLES = ("silu", "sigmoid", "tanh", "relu", "gelu_tanh", "soft_cap")  # of each number
PAIRS = ("add", "multiply_by", "subtract")  # of two rows
BY_ROWS = (*SINGLES, *PAIRS, "rms_norm", "layer_norm", "rotate", "append")
"""Operations of which each thread computes the same rows, always."""
OF_OTHERS = ("append", "attention", "causal_conv")
"""Operations by which a row needs others, of those before it."""
CACHES = ("float32", "float16")
AT_ONCE = (32, 8, 1)  # columns of a head that attention takes at once


def multiply(kind: int) -> str:
    """The instruction of products with matrices of a kind."""
    return f"multiply_{kind}"


def widen(kind: int) -> str:
    """What widens a row of matrices of a kind."""
    return f"widen_{kind}"


def append(cache: str) -> str:
    """The instruction that writes to a cache."""
    return f"append_{cache}"


def attention(cache: str, columns: int) -> str:
    """The instruction that reads a cache, so many columns at once."""
    return f"attention_{cache}_{columns}"
