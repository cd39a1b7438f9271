"""Judging the links of one patient: ``python -m bench.links``.

A patient of 20 MRIs and 200 candidates is judged from parsed resources to links and refusals, with
nothing kept from one round to the next. Processor time, the best and the median of many rounds, of
several patients, so that no lucky history is measured.
"""

import gc
import statistics
from collections.abc import Iterator
from time import process_time

from bench.figures import Figure, table
from flute_sync.link_case import Case
from flute_sync.supporting_info import judge
from tests.histories import case, history, pi_rads

STUDIES, CANDIDATES = 20, 200
PATIENTS, ROUNDS = 20, 5
GOAL_MILLISECONDS = 5


def main() -> None:
    """Print the figures."""
    print(table(figures()))


def figures() -> Iterator[Figure]:
    """Measure histories with exact dates, and some in which half of the scores name their study."""
    yield measured("links of one patient", [example(seed) for seed in range(PATIENTS)])
    yield measured("links of one patient, many stated", [stated(seed) for seed in range(PATIENTS)])


def example(seed: int) -> Case:
    """A patient of 20 studies, 18 of them MRIs of the prostate, and 200 candidates of 15 years."""
    made = history(seed, mris=STUDIES - 2, variables=CANDIDATES, span=5500)
    return case(made.studies, made.candidates)


def stated(seed: int) -> Case:
    """The same patient, with 80 scores that name an MRI."""
    known = example(seed)
    named = [
        pi_rads(
            f"named-{number}",
            "2030-01-01",
            derivedFrom=[{"reference": f"ImagingStudy/m{number % 18}/_history/3"}],
        )
        for number in range(80)
    ]
    return case(known.studies, [*known.candidates[80:], *named])


def measured(what: str, cases: list[Case]) -> Figure:
    """Time the judgement of each patient anew."""
    times = [seconds(one) for one in cases]
    median = statistics.median(times) * 1e3
    return Figure(
        f"{what}, {STUDIES} studies and {CANDIDATES} candidates",
        median,
        "ms",
        at_most=GOAL_MILLISECONDS,
        detail=f"the slowest of {len(cases)} patients {max(times) * 1e3:.2f} ms",
    )


def seconds(known: Case) -> float:
    """Return the least processor seconds of several rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        fresh = case(known.studies, known.candidates)
        gc.collect()
        started = process_time()
        judge(fresh)
        least = min(least, process_time() - started)
    return least


if __name__ == "__main__":
    main()
