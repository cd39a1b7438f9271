"""Who is signed in: kept in memory, known to the browser by a random word alone."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks at a page.

    ``name`` is shown to the person alone; ``identity`` is under what the log's mark is made.
    ``binding`` ties a form to this browser.
    """

    name: str
    identity: str
    binding: str
    may_sign_out: bool = False


@dataclass(slots=True)
class _Session:
    name: str
    identity: str
    began: float
    seen: float
    holds: Callable[[], bool]


class Sessions:
    """Open sessions; the oldest goes where there are too many.

    Parameters
    ----------
    idle
        After how long without a page one ends.
    longest
        After how long one ends in any case.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        idle: timedelta,
        longest: timedelta,
        *,
        most: int = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle = idle.total_seconds()
        self._longest = longest.total_seconds()
        self._most = most
        self._clock = clock
        self._open: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, name: str, identity: str, holds: Callable[[], bool] = lambda: True) -> str:
        """Open a session and return the word by which the browser shows it.

        Parameters
        ----------
        holds
            Whether the person is still admitted; asked at each page.
        """
        now, word = self._clock(), secrets.token_urlsafe(32)
        while len(self._open) >= self._most:
            self._open.popitem(last=False)
        self._open[_hashed(word)] = _Session(name, identity, now, now, holds)
        return word

    def person(self, word: str) -> Person | None:
        """Return who shows a word; None where nobody is signed in by it, or not any more."""
        key, now = _hashed(word), self._clock()
        session = self._open.get(key)
        if session is None:
            return None
        ended = now - session.seen > self._idle or now - session.began > self._longest
        if ended or not session.holds():
            del self._open[key]
            return None
        session.seen = now
        self._open.move_to_end(key)
        return Person(session.name, session.identity, word, may_sign_out=True)

    def end(self, word: str) -> None:
        """Close a session."""
        self._open.pop(_hashed(word), None)


def _hashed(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()
