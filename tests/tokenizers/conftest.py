"""Hypothesis without its deadline of 200 ms: it fails tests on a busy machine, not on slow code.

Where time matters (damaged files) a test measures it itself, with room to spare.
"""

from hypothesis import settings

settings.register_profile("tokenizers", deadline=None)
settings.load_profile("tokenizers")
