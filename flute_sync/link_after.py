"""Variables that follow an MRI: PI-RADS score and prostate volume, biopsy, ISUP grade.

Each belongs to the latest MRI of the prostate before it, if that is near enough, and an MRI has one
of each kind. An ISUP grade belongs where its biopsy does.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from flute_sync.fhir_dates import Interval, Verdict, add_months
from flute_sync.link_case import Candidate, Imaging
from flute_sync.link_place import Dated, Placed, Question, days, undecided

_CERTAIN, _POSSIBLE, _CONTRADICTED = Verdict.CERTAIN, Verdict.POSSIBLE, Verdict.CONTRADICTED
_AMENDED = frozenset({"amended", "corrected"})
_Order = Callable[[Interval, Interval], Verdict]
_Preferred = Callable[[Candidate, Candidate], bool]


class Follows(NamedTuple):
    """How a kind follows an MRI.

    ``order`` tells whether an MRI was before, ``window`` whether it was near enough too.
    """

    rule: str
    limit: str
    order: _Order
    window: _Order
    preferred: _Preferred


def of_report(limit: timedelta) -> Follows:
    """Return how a score or volume follows: on the day of the MRI, or within ``limit``."""

    def order(mri: Interval, day: Interval) -> Verdict:
        if mri.high <= day.low:
            return _CERTAIN
        return _CONTRADICTED if mri.low > day.high else _POSSIBLE

    def window(mri: Interval, day: Interval) -> Verdict:
        return day.within(mri, mri.shifted(limit.days))

    return Follows("time/after-mri", days(limit.days), order, window, _amended_or_first)


def of_biopsy(months: int) -> Follows:
    """Return how a biopsy follows: after the MRI, within so many calendar months."""

    def window(mri: Interval, day: Interval) -> Verdict:
        order = mri.before(day)
        early = add_months(day.low, -months)
        if order is _CONTRADICTED or mri.high < early:
            return _CONTRADICTED
        late = early if day.high == day.low else add_months(day.high, -months)
        return order if mri.low >= late else _POSSIBLE

    words = "1 year" if months == 12 else f"{months} months"
    return Follows("time/biopsy", words, Interval.before, window, _first)


def place_after(question: Question, follows: Follows) -> dict[str, Placed]:
    """Give each variable to the latest MRI before it, then leave to each MRI one of them."""
    found: dict[str, Placed] = {}
    sure: dict[str, list[Candidate]] = {}
    maybe: dict[str, list[Candidate]] = {}
    for one in question.candidates:
        placed = found[one.reference] = _latest(one, question, follows)
        if placed.study is not None:
            sure.setdefault(placed.study, []).append(one)
        for uid in placed.possible:
            maybe.setdefault(uid, []).append(one)
    mris = {mri.uid: mri for mri in question.mris}
    for uid, group in sure.items():
        found |= _chosen(mris[uid], group, maybe.get(uid, []), found, question, follows)
    return found


def _chosen(
    mri: Imaging,
    group: list[Candidate],
    perhaps: list[Candidate],
    found: Mapping[str, Placed],
    question: Question,
    follows: Follows,
) -> dict[str, Placed]:
    """Leave to an MRI one of those that surely follow it, before those that perhaps do."""
    leader = group[0] if len(group) == 1 else _leader(group, follows.preferred)
    if mri.uid in question.occupied:
        reason = f"{mri.words} has one that was stated to be its own"
        chosen = {one.reference: Placed(follows.rule, reason) for one in group}
    else:
        chosen = _contest(leader, found[leader.reference], mri, group, perhaps, follows)
    for one in perhaps:
        if follows.preferred(leader, one):
            placed = found[one.reference]
            chosen[one.reference] = placed._replace(possible=placed.possible - {mri.uid})
    return chosen


def _latest(one: Candidate, question: Question, follows: Follows) -> Placed:
    # Of several that may be the latest, none surely is.
    day = one.span
    rivals = question.mris_for(one).latest(day, follows.order)
    if not rivals:
        return Placed(follows.rule, f"no MRI of the prostate precedes {day}")
    near = [(mri, follows.window(mri.span, day)) for mri in rivals]
    open_to = [mri for mri, verdict in near if verdict is not _CONTRADICTED]
    if not open_to:
        reason = f"{rivals[0].words}, the latest before {day}, is not within {follows.limit}"
        return Placed(follows.rule, reason)
    if len(rivals) > 1 or near[0][1] is not _CERTAIN:
        possible = frozenset(mri.uid for mri in open_to if mri.uid not in question.occupied)
        return Placed(follows.rule, undecided(one, rivals), None, possible)
    return Placed(follows.rule, _distance(rivals[0], day), rivals[0].uid)


def _distance(mri: Imaging, day: Interval) -> str:
    count = (day.low - mri.span.high).days
    return f"{days(count)} after {mri.words}" if count else f"on the day of {mri.words}"


def _leader(group: Iterable[Candidate], preferred: _Preferred) -> Candidate:
    """Return whom nobody is preferred to; whoever another is preferred to, he is too."""
    leader, *others = sorted(group, key=_end)
    for one in others:
        if preferred(one, leader):
            leader = one
    return leader


def _end(one: Candidate) -> tuple[bool, int, int]:
    """Return a key by which the first comes that ends before, or of amended ones, begins after."""
    low, high = one.span.low.toordinal(), one.span.high.toordinal()
    return (False, -low, high) if _is_amended(one) else (True, high, -low)


def _contest(
    leader: Candidate,
    placed: Placed,
    mri: Imaging,
    group: list[Candidate],
    perhaps: list[Candidate],
    follows: Follows,
) -> dict[str, Placed]:
    """Say of each of those that follow an MRI whether it is the one that the MRI takes."""
    if len(group) == 1 and not perhaps:
        return {leader.reference: placed}
    before = f"{mri.words} has {leader.reference} of {leader.span}, which comes before this"
    doubt = f"{mri.words} may have another one that comes before this"
    undecided_one = Placed(follows.rule, doubt, None, frozenset({mri.uid}))
    beaten = Placed(follows.rule, before)
    found = {
        one.reference: beaten if follows.preferred(leader, one) else undecided_one for one in group
    }
    rivals = (other for other in (*group, *perhaps) if other is not leader)
    if all(follows.preferred(leader, other) for other in rivals):
        found[leader.reference] = placed
    return found


def _first(one: Candidate, other: Candidate) -> bool:
    """Tell whether one surely was before the other; of one day, the tie decides."""
    a, b = one.span, other.span
    if a.high < b.low:
        return True
    if not a.low == a.high == b.low == b.high:
        return False
    if a.instant != b.instant:
        # What states no time comes last: were it compared by version, none might be the first.
        return b.instant is None or (a.instant is not None and a.instant < b.instant)
    return one.tie[1:] > other.tie[1:]


def _amended_or_first(one: Candidate, other: Candidate) -> bool:
    """Tell whether one is surely taken before the other: the latest amended, else the earliest."""
    is_amended = _is_amended(one)
    if is_amended is not _is_amended(other):
        return is_amended
    if not is_amended:
        return _first(one, other)
    a, b = one.span, other.span
    if a.low == a.high == b.low == b.high:
        return one.tie > other.tie
    return a.low > b.high


def _is_amended(one: Candidate) -> bool:
    return one.resource.get("status") in _AMENDED


# -- by the biopsy ---------------------------------------------------------------------------


def place_outcomes(
    outcomes: Iterable[Candidate],
    biopsies: Dated[Candidate],
    homes: Mapping[str, str],
    open_to: Mapping[str, frozenset[str]],
    limit: timedelta,
) -> dict[str, Placed]:
    """Place ISUP grades, each of some day, with the latest biopsy before it, within ``limit``.

    Parameters
    ----------
    homes
        Reference of a biopsy -> the study that it is linked to.
    open_to
        Reference of a biopsy -> studies that it may belong to.
    """
    follows = of_report(limit)
    found: dict[str, Placed] = {}
    of_day: dict[tuple[date, date], Placed] = {}
    for one in outcomes:
        day = (one.span.low, one.span.high)
        if day not in of_day:
            of_day[day] = _with_biopsy(one.span, biopsies, follows, homes, open_to)
        found[one.reference] = of_day[day]
    return found


def _with_biopsy(
    day: Interval,
    biopsies: Dated[Candidate],
    follows: Follows,
    homes: Mapping[str, str],
    open_to: Mapping[str, frozenset[str]],
) -> Placed:
    rule = "time/outcome"
    latest = [(one, follows.window(one.span, day)) for one in biopsies.latest(day, follows.order)]
    near = [one for one, verdict in latest if verdict is not _CONTRADICTED]
    if not near:
        return Placed(rule, f"no biopsy on the day, or in the {follows.limit} before {day}")
    known = {homes[one.reference] for one in near if one.reference in homes}
    doubtful = {uid for one in near for uid in open_to.get(one.reference, ())}
    days_of = {one.span[:2] for one in near}
    one_session = len(days_of) == 1 and near[0].span.low == near[0].span.high
    sure = (
        all(verdict is _CERTAIN for _, verdict in latest)
        and (one_session or all(one.reference in homes for one in near))
        and len(known) <= 1
        and not doubtful - known
    )
    named = " and ".join(sorted(one.reference for one in near))
    if not known and not doubtful:
        return Placed(rule, f"its biopsy, {named}, belongs to no MRI")
    if not sure:
        reason = f"its date {day} does not settle which study it belongs to with {named}"
        return Placed(rule, reason, None, frozenset(known | doubtful))
    return Placed(rule, f"with its biopsy {named}", known.pop())
