"""The one error that octavo raises on purpose: wrong input, said in a line."""


class OctavoError(ValueError):
    """What was expected, what was found and what to do about it, in one line.

    Every refusal of a file, a text or an option is this type. The command line prints
    it without a traceback and exits with code 2.
    """
