"""The one error an artist sees: a sentence that says what, where and what to do."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person: what was found, in which file or view, and the next action.
    Raised at the engine's edges (files, configs, sockets); the canvas and the command line print it without a trace.
    """
