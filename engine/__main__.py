"""`python -m engine`: see cli."""

import gc
import logging
import os
import signal
from types import FrameType


def _stop_loading(number: int, frame: FrameType | None) -> None:
    """Libraries that are just being loaded may not notice an exception."""
    os.write(2, b"stopped; no work had begun\n")
    os._exit(128 + number)


def _run() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_loading)
    # what is loaded stays: looking through it for garbage again and again would take longer than some libraries
    gc.disable()
    from .cli import main
    from .cli.stopping import ignore_signals

    gc.freeze()
    gc.enable()
    code = main()
    ignore_signals()
    if code >= 128:
        # whoever stops a command does not wait for libraries to be unloaded
        logging.shutdown()
        os._exit(code)
    return code


raise SystemExit(_run())
