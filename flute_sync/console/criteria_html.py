"""The report on a cohort as one HTML file: it loads nothing and, unless asked to, names nobody.

People are labelled by a key that is drawn for each report and then forgotten, and days are counted
from the biopsy, so that two reports cannot be joined.
"""

import heapq
import hmac
import secrets
from base64 import b32encode
from collections import Counter
from datetime import date, datetime
from typing import Any, BinaryIO, Final, NamedTuple

from jinja2 import PackageLoader

from flute_sync import __version__
from flute_sync.cohort import MEANINGS, Tally
from flute_sync.console.templating import environment
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import CRITERION, TEXT, Eligibility, Ground, Judged, Result
from flute_sync.fhir_dates import Interval
from flute_sync.flute_variables import SHORT

MOST_DRAWN: Final = 200
"""Biopsies on the timeline; of more, a sample by chance."""
FIRST_DAY: Final = -1095
LAST_DAY: Final = 365
"""What the timeline shows, in days from the biopsy; what lies beyond stands at its edge."""
BIN_DAYS: Final = 30
_WIDTH: Final = 730
_LEFT: Final = 190
_ROW: Final = 14
_BARS: Final = 120


class Mark(NamedTuple):
    """Something on the timeline, in its units; ``kind`` is a class of the style sheet."""

    x: float
    width: float
    kind: str
    title: str


class Line(NamedTuple):
    """One biopsy on the timeline."""

    label: str
    verdict: Eligibility
    title: str
    marks: tuple[Mark, ...]


class HtmlSink:
    """Takes results, and writes the report in the end; memory does not grow with them.

    Parameters
    ----------
    references
        Whether references and dates are shown.
    criterion
        Its name and text.
    """

    def __init__(
        self,
        file: BinaryIO,
        settings: CriteriaSettings,
        *,
        now: datetime,
        references: bool,
        criterion: tuple[str, str] = (CRITERION, TEXT),
    ) -> None:
        self._file = file
        self._settings = settings
        self._criterion = criterion
        self._now = now
        self._references = references
        self._key = secrets.token_bytes(32)
        self._lines: list[tuple[bytes, int, Line]] = []
        self._drawn = 0
        self._days: Counter[int] = Counter()
        self._beyond = 0

    def take(self, judged: Judged) -> None:
        """Tell of one patient."""
        for number, one in enumerate(judged.results, 1):
            if one.study is not None and one.study.day is not None and one.biopsy.day is not None:
                between = _between(one.study.day, one.biopsy.day)
                if FIRST_DAY <= between < LAST_DAY:
                    self._days[between // BIN_DAYS * BIN_DAYS] += 1
                else:
                    self._beyond += 1
            if one.biopsy.day is not None and one.biopsy.day.low != date.min:
                self._sample(one, number, judged)

    def end(self, tally: Tally) -> None:
        """Write the report."""
        templates = environment(PackageLoader("flute_sync.console"))
        text = templates.get_template("criteria.html").render(self._values(tally))
        self._file.write(text.encode())

    def _sample(self, result: Result, number: int, judged: Judged) -> None:
        """Keep the biopsies of the greatest digests: by a key of chance, a sample by chance."""
        digest = hmac.digest(self._key, f"{result.patient} {number}".encode(), "sha256")
        self._drawn += 1
        if len(self._lines) == MOST_DRAWN and digest <= self._lines[0][0]:
            return
        item = (digest, self._drawn, self._line(result, number, judged))
        if len(self._lines) < MOST_DRAWN:
            heapq.heappush(self._lines, item)
        else:
            heapq.heapreplace(self._lines, item)

    def _line(self, result: Result, number: int, judged: Judged) -> Line:
        marks = [_biopsy_mark(result, self._words(result.biopsy.day))]
        for mri in judged.mris:
            if mri.day is not None and result.biopsy.day is not None:
                is_deciding = mri == result.study
                kind = "mri deciding" if is_deciding else "mri"
                when = self._words(mri.day) or _relative(mri.day, result.biopsy.day)
                marks.append(_mark(mri.day, result.biopsy.day, kind, f"MRI, {when}"))
        title = result.reason if self._references else MEANINGS[result.ground]
        return Line(self._label(result, number), result.verdict, title, tuple(marks))

    def _label(self, result: Result, number: int) -> str:
        if self._references:
            return f"{result.patient} {result.biopsy.name}"
        digest = hmac.digest(self._key, result.patient.encode(), "sha256")
        return f"{b32encode(digest)[:8].decode()}-{number}"

    def _words(self, day: Interval | None) -> str:
        return str(day) if self._references and day is not None else ""

    def _values(self, tally: Tally) -> dict[str, Any]:
        order = list(Eligibility)
        lines = [line for _, _, line in self._lines]
        lines.sort(key=lambda one: (order.index(one.verdict), one.label))
        return {
            "criterion": self._criterion[0],
            "text": self._criterion[1],
            "own": self._criterion[0] != CRITERION,
            "version": __version__,
            "now": self._now.strftime("%Y-%m-%d %H:%M UTC"),
            "settings": self._settings,
            "references": self._references,
            "tally": tally,
            "verdicts": order,
            "grounds": list(Ground),
            "meanings": MEANINGS,
            "kinds": SHORT,
            "ages": tally.grounds[Eligibility.UNKNOWN, Ground.BIOPSY_AGE],
            "lines": lines,
            "drawn": self._drawn,
            "bars": self._histogram(),
            "beyond": self._beyond,
            "ticks": [(_x(day), day) for day in range(FIRST_DAY, LAST_DAY + 1, 365)],
            "left": _LEFT,
            "width": _WIDTH,
            "row": _ROW,
            "tall": _BARS,
        }

    def _histogram(self) -> list[dict[str, float]]:
        most = max(self._days.values(), default=1)
        return [
            {
                "x": _x(day),
                "width": _WIDTH * BIN_DAYS / (LAST_DAY - FIRST_DAY) - 1,
                "height": _BARS * count / most,
                "count": count,
                "day": day,
            }
            for day, count in sorted(self._days.items())
        ]


def _biopsy_mark(result: Result, words: str) -> Mark:
    day = result.biopsy.day or Interval(date.min, date.min)
    kind = "biopsy inexact" if day.low != day.high else "biopsy"
    return _mark(day, day, kind, f"biopsy{', ' if words else ''}{words}")


def _mark(day: Interval, biopsy: Interval, kind: str, title: str) -> Mark:
    low, high = _x((day.low - biopsy.low).days), _x((day.high - biopsy.low).days)
    return Mark(low, high - low, kind, title)


def _relative(day: Interval, biopsy: Interval) -> str:
    low, high = (day.low - biopsy.high).days, (day.high - biopsy.low).days
    return f"{low} days from the biopsy" if low == high else f"{low} to {high} days from the biopsy"


def _between(study: Interval, biopsy: Interval) -> int:
    """Return the days from a biopsy to a study, from the middle of each."""
    middles = [(day.low.toordinal() + day.high.toordinal()) // 2 for day in (study, biopsy)]
    return middles[0] - middles[1]


def _x(day: int) -> float:
    """Return where a day stands on the timeline."""
    within = min(max(day, FIRST_DAY), LAST_DAY)
    return round(_LEFT + _WIDTH * (within - FIRST_DAY) / (LAST_DAY - FIRST_DAY), 1)
