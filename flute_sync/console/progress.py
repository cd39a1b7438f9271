"""How far a long command is: a bar on a terminal, a line now and then elsewhere.

It goes to standard error, so that ``--json`` on standard output stays one document.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import click

LINE_EVERY: Final = timedelta(seconds=30)
_RATE_OVER: Final = timedelta(seconds=60)
_WIDTH: Final = 30


class Gauge:
    """Measures how fast a count rises, and so how long the rest will take."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, at: float) -> None:
        """Note how many are done; ``at`` is in seconds of any clock."""
        self._seen.append((at, done))
        while len(self._seen) > 2 and at - self._seen[1][0] > _RATE_OVER.total_seconds():
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """How many are done in a second; None while that is not known."""
        if len(self._seen) < 2:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended > began else None

    def sentence(self, done: int, total: int | None) -> str:
        """Say rate and remaining time, as far as they are known."""
        rate = self.per_second
        if not rate:
            return ""
        said = f"{rate:.1f}/s"
        if total is not None and total >= done:
            said += f", {span(timedelta(seconds=(total - done) / rate))} left"
        return said


def span(time_left: timedelta) -> str:
    """Say a duration in two units at most."""
    seconds = int(time_left.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    hours = seconds // 3600
    return f"{hours} h {seconds % 3600 // 60} min" if hours < 48 else f"{hours // 24} days"


class Display:
    """Shows one count that rises; for one thread at a time.

    Parameters
    ----------
    bar
        Of a terminal; None writes lines.
    unit
        What is counted.
    """

    def __init__(self, what: str, bar: Any | None, unit: str = "studies") -> None:
        self._what, self._bar, self._unit = what, bar, unit
        self._gauge = Gauge()
        self._said_at: float | None = None
        self._waiting_for: str | None = None

    def show(self, done: int, total: int | None, waiting_for: str | None = None) -> None:
        """Show how far it is, and what it waits for."""
        now = time.monotonic()
        self._gauge.note(done, now)
        if self._bar is not None:
            said = (
                f"waiting for {waiting_for}" if waiting_for else self._gauge.sentence(done, total)
            )
            self._bar.length = total
            self._bar.update(done - self._bar.pos, said)
            return
        is_news = waiting_for != self._waiting_for
        if self._said_at is None:
            self._said_at = now
        if is_news or now - self._said_at >= LINE_EVERY.total_seconds():
            self._said_at, self._waiting_for = now, waiting_for
            click.echo(self._line(done, total), err=True)

    def _line(self, done: int, total: int | None) -> str:
        of = f" of {total:,}" if total is not None else ""
        said = self._gauge.sentence(done, total)
        if self._waiting_for:
            said = f"waiting for {self._waiting_for}"
        return f"{self._what}: {done:,}{of} {self._unit}{', ' if said else ''}{said}"


@contextmanager
def display(what: str, unit: str = "studies") -> Iterator[Display]:
    """Show progress while the block lasts."""
    if not sys.stderr.isatty():
        yield Display(what, None, unit)
        return
    with click.progressbar(
        _nothing(),
        label=what,
        width=_WIDTH,
        show_pos=True,
        show_eta=False,
        item_show_func=lambda said: said,
        file=sys.stderr,
    ) as bar:
        yield Display(what, bar, unit)


def _nothing() -> Iterator[str]:
    """What is counted is not iterated over, and its length not known beforehand."""
    yield from ()
