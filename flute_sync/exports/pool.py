"""Work on all processors, in processes of its own, whose answers come in order."""

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Final, NamedTuple, TypeVar

from flute_sync.errors import FluteSyncError

_AHEAD: Final = 4
"""Pieces of work for each process that wait or are answered; of more, answers would pile up."""
_Work = TypeVar("_Work")
_Answer = TypeVar("_Answer")


class _Failed(NamedTuple):
    """An error as it passes from one process to another."""

    kind: type[FluteSyncError]
    detail: str


def processors() -> int:
    """Return how many processors there are for this process."""
    return len(os.sched_getaffinity(0))


def in_order(
    do: Callable[[_Work], _Answer], work: Iterable[_Work]
) -> Iterator[tuple[_Work, _Answer]]:
    """Yield each piece of work with its answer, worked on by as many processes as processors.

    What is read and judged makes no cycles: none is looked for, which would take a fifth of the
    time.

    Parameters
    ----------
    do
        What is done; it, the work and the answers pass between processes.

    Raises
    ------
    FluteSyncError
        What ``do`` raised of that kind, or a process was ended from outside.
    """
    processes = processors()
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin)
    waiting: deque[tuple[_Work, Future[_Answer | _Failed]]] = deque()
    collects = gc.isenabled()
    gc.disable()
    try:
        for one in work:
            waiting.append((one, pool.submit(partial(_guarded, do), one)))
            if len(waiting) > _AHEAD * processes:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    except BrokenProcessPool:
        raise FluteSyncError("a process that helps was ended") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if collects:
            gc.enable()


def _result(one: _Work, answer: "Future[_Answer | _Failed]") -> tuple[_Work, _Answer]:
    found = answer.result()
    if isinstance(found, _Failed):
        raise found.kind(found.detail)
    return one, found


def _guarded(do: Callable[[_Work], _Answer], one: _Work) -> _Answer | _Failed:
    try:
        return do(one)
    except FluteSyncError as error:
        return _Failed(type(error), error.detail)


def _begin() -> None:
    """Leave Ctrl-C, which reaches every process, to the one that was started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
