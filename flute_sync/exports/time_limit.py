"""Ends what takes too long of the processor, such as an expression that somebody wrote.

Time of the processor, not of the clock: a machine that is busy with something else ends nothing.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from flute_sync.criterion_errors import CriterionSlow

LIMIT: Final = timedelta(seconds=20)
"""For one patient."""


@contextmanager
def limited(name: str, limit: timedelta = LIMIT) -> Iterator[None]:
    """Let what is done within take so long; only the main thread can be interrupted.

    Raises
    ------
    CriterionSlow
        It took longer; of ``name``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: object) -> None:
        raise CriterionSlow(f"{name}: more than {limit.total_seconds():g} s of the processor")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit.total_seconds())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
