"""Cohorts in any form that exports have, against brute force: who is whom, what is newest."""

import json
import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.cohort_judging import Judging, Question
from flute_sync.exports.spool import Spool
from tests.eligibility_oracle import When, verdict
from tests.histories import Resource, biopsy, patient, study

CENTRE = date(2024, 2, 29)
SYSTEM = "urn:hospital"
DAYS = st.sampled_from([-800, -367, -366, -365, -364, -30, -1, 0, 1, 40])
PEOPLE = st.integers(2, 5)


class Cohort:
    """A cohort drawn from a seed, as an export has it, and what is to be said of it."""

    def __init__(self, chance: random.Random, people: int, offsets: list[int]) -> None:
        self.chance = chance
        self.entries: list[Resource] = []
        self.into = {one: one for one in range(people)}
        for one in range(1, people):
            if chance.random() < 0.3:
                self.into[one] = chance.randrange(one)
        for one in range(people):
            self._patient(one)
        self.mris: list[tuple[int, When | None]] = []
        self.biopsies: dict[str, tuple[int, When | None]] = {}
        for number, offset in enumerate(offsets):
            self._dated(number, CENTRE + timedelta(days=offset))

    def survivor(self, person: int) -> int:
        while self.into[person] != person:
            person = self.into[person]
        return person

    def _patient(self, person: int) -> None:
        links = []
        if self.into[person] != person:
            into = {"reference": f"Patient/n{self.into[person]}"}
            links.append({"type": "replaced-by", "other": into})
        identifier = [{"system": SYSTEM, "value": f"{person}"}, {"value": "shared"}]
        made = patient(name=f"n{person}") | {"identifier": identifier, "link": links}
        self.entries.append({"fullUrl": f"urn:uuid:{person}", "resource": made})

    def _subject(self, person: int) -> Resource:
        forms: list[Resource] = [
            {"reference": f"Patient/n{person}"},
            {"reference": f"https://fhir.example/r4/Patient/n{person}/_history/2"},
            {"reference": f"urn:uuid:{person}"},
            {"type": "Patient", "identifier": {"system": SYSTEM, "value": f"{person}"}},
        ]
        return self.chance.choice(forms)

    def _dated(self, number: int, day: date) -> None:
        person = self.chance.randrange(len(self.into))
        stated = day.isoformat() if self.chance.random() < 0.9 else None
        is_mri = self.chance.random() < 0.6
        make: Any = study if is_mri else biopsy
        made = make(f"r{number}", stated) | {"subject": self._subject(person)}
        versions = self.chance.choice([1, 1, 2, 3])
        for version in range(1, versions):
            wrong = make(f"r{number}", self.chance.choice(["2024-01-15", "2020-01-01", None]))
            older = wrong | {"subject": self._subject(self.chance.randrange(len(self.into)))}
            self.entries.append({"resource": older | {"meta": {"versionId": f"{version}"}}})
        meta = {"versionId": f"{versions + 8}"}
        self.entries.append({"resource": made | {"meta": meta}})
        when = When((day,)) if stated else None
        if is_mri:
            self.mris.append((self.survivor(person), when))
        else:
            self.biopsies[f"Procedure/r{number}"] = (self.survivor(person), when)

    def write(self, folder: Path) -> None:
        self.chance.shuffle(self.entries)
        parts: list[list[Resource]] = [[], []]
        for one in self.entries:
            self.chance.choice(parts).append(one)
        for number, part in enumerate(parts):
            bundle = {"resourceType": "Bundle", "type": "batch", "entry": part}
            text = json.dumps(bundle, indent=self.chance.choice([None, 1]))
            if self.chance.random() < 0.5:  # a Bundle a line, or each line an entry's
                lines = [{**bundle, "entry": [one]} for one in part]
                (folder / f"{number}.ndjson").write_text("\n".join(map(json.dumps, lines)))
            else:
                (folder / f"{number}.json").write_text(text)

    @property
    def expected(self) -> dict[str, tuple[str, str]]:
        return {
            name: (f"Patient/n{who}", verdict(when, [day for of, day in self.mris if of == who]))
            for name, (who, when) in self.biopsies.items()
        }


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), PEOPLE, st.lists(DAYS, min_size=1, max_size=10))
def test_the_verdicts_are_those_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    chance: random.Random,
    people: int,
    offsets: list[int],
) -> None:
    cohort = Cohort(chance, people, offsets)
    folder = tmp_path_factory.mktemp("export")
    cohort.write(folder)
    with Spool() as spool:
        judging = Judging(Question(folder, None, CriteriaSettings()), spool)
        judging.read(lambda done, total: None)
        found = [one for judged in judging.results() for one in judged.results]
    assert {one.biopsy.name: (one.patient, one.verdict.value) for one in found} == cohort.expected
    assert len(found) == len(cohort.expected)
    assert judging.tally.patients == len({cohort.survivor(one) for one in range(people)})
    assert judging.tally.without_patient == 0
