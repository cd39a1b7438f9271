"""The table of cases of the eligibility criterion: a Bundle, and what is to be said of it.

Every engine is held to it: our own, and those that read the criterion as FHIRPath or CQL. They read
``cases.json``, which `python -m tests.criteria_cases` writes from here; nobody's data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.histories import (
    DCM,
    KNEE,
    PELVIS,
    PROSTATE,
    Resource,
    biopsy,
    dre,
    patient,
    study,
)

DAY = "2024-06-10"
BIRTH = "1974-12-25"
UNTRUSTED = {"tag": [{"system": "urn:uuid:6f3d2c54-6a0b-5e0c-9d0b-3f6d1f0b7c11",
                      "code": "date-untrusted"}]}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Resources of a cohort, and for each biopsy its verdict and the study that decided.

    ``settings`` are those of ``[criteria]`` that differ from the defaults. ``kind`` says what an
    engine must be able to express; one that cannot must say unknown, never another word.
    """

    name: str
    kind: str
    resources: Sequence[Resource]
    expected: dict[str, tuple[str, str | None]]
    settings: dict[str, str] = field(default_factory=dict)
    full_urls: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in ``cases.json``."""
        entries: list[dict[str, Any]] = [{"resource": one} for one in self.resources]
        for entry, url in zip(entries, self.full_urls, strict=False):
            entry["fullUrl"] = url
        return {
            "name": self.name,
            "kind": self.kind,
            "settings": self.settings,
            "bundle": {"resourceType": "Bundle", "type": "collection", "entry": entries},
            "expected": [
                {"biopsy": f"Procedure/{name}", "verdict": verdict, "study": study and _name(study)}
                for name, (verdict, study) in self.expected.items()
            ],
        }


def _name(study_id: str) -> str:
    return f"ImagingStudy/{study_id}"


def mri(started: str | None, name: str = "m", **elements: Any) -> Resource:
    """An MRI of the prostate."""
    return study(name, started, **elements)


def one(
    name: str,
    started: str | None,
    performed: Any,
    verdict: str,
    kind: str = "dates",
    settings: dict[str, str] | None = None,
    **elements: Any,
) -> Case:
    """A patient with one MRI and one biopsy."""
    resources = [patient(BIRTH), mri(started, **elements), biopsy("b", performed)]
    return Case(name, kind, resources, {"b": (verdict, "m")}, settings or {})


def several(
    name: str, kind: str, resources: Sequence[Resource], settings: dict[str, str] | None = None,
    **expected: tuple[str, str | None],
) -> Case:  # fmt: skip
    """A patient with these resources."""
    return Case(name, kind, [patient(BIRTH), *resources], expected, settings or {})


def without(resource: Resource, *names: str) -> Resource:
    """A resource without some elements."""
    return {name: value for name, value in resource.items() if name not in names}


IN, OUT, OPEN = "included", "excluded", "unknown"
MR = {"uid": "1.2.3", "modality": {"system": DCM, "code": "MR"}}

WINDOW = [
    several("no MRI at all", "dates", [biopsy("b", DAY)], b=(OUT, None)),
    one("the day before", "2024-06-09", DAY, IN),
    one("exactly one year before", "2023-06-10", DAY, IN),
    one("a year and a day before", "2023-06-09", DAY, OUT),
    one("366 days before, in a leap year", "2023-06-10", "2024-06-10", IN),
    one("365 days before, without a leap day", "2024-06-10", "2025-06-10", IN),
    one("the day after", "2024-06-11", DAY, OUT),
    one("MRI on a leap day, biopsy on the last day", "2024-02-29", "2025-02-28", IN),
    one("MRI on a leap day, biopsy a day later", "2024-02-29", "2025-03-01", OUT),
    one("biopsy on a leap day, MRI on the first day", "2023-02-28", "2024-02-29", IN),
    one("biopsy on a leap day, MRI a day earlier", "2023-02-27", "2024-02-29", OUT),
    one("from leap day to leap day", "2020-02-29", "2024-02-29", OUT),
    several("an old and a recent MRI", "dates",
            [mri("2021-01-01", "old"), mri("2024-05-01", "new"), biopsy("b", DAY)], b=(IN, "new")),
    several("two in the window: the later decides", "dates",
            [mri("2024-01-01", "a"), mri("2024-05-01", "z"), biopsy("b", DAY)], b=(IN, "z")),
    several("an old one and one after", "dates",
            [mri("2021-01-01", "old"), mri("2024-07-01", "after"), biopsy("b", DAY)],
            b=(OUT, "old")),
    several("included goes before unknown", "dates",
            [mri(None, "undated"), mri("2024-05-01", "sure"), biopsy("b", DAY)], b=(IN, "sure")),
    several("unknown goes before excluded", "dates",
            [mri("2021-01-01", "old"), mri(DAY, "same"), biopsy("b", DAY)], b=(OPEN, "same")),
]  # fmt: skip

SAME_DAY = [
    one("of one day", DAY, DAY, OPEN, "same-day"),
    one("of one day, include", DAY, DAY, IN, "setting", {"same_day": "include"}),
    one("of one day, exclude", DAY, DAY, OUT, "setting", {"same_day": "exclude"}),
    one("of one day, the MRI an hour earlier", f"{DAY}T09:00:00+02:00", f"{DAY}T10:00:00+02:00",
        IN, "same-day"),
    one("of one day, the MRI an hour later", f"{DAY}T11:00:00+02:00", f"{DAY}T10:00:00+02:00",
        OUT, "same-day"),
    one("times of two zones", f"{DAY}T10:30:00+02:00", f"{DAY}T09:00:00Z", IN, "same-day"),
    one("at the same instant", f"{DAY}T10:00:00+02:00", f"{DAY}T08:00:00Z", OUT, "same-day"),
    one("times go before the setting", f"{DAY}T11:00:00Z", f"{DAY}T10:00:00Z", OUT, "setting",
        {"same_day": "include"}),
    one("only the MRI states a time", f"{DAY}T09:00:00Z", DAY, OPEN, "same-day"),
    one("half past midnight is of that day", f"{DAY}T00:30:00+02:00", DAY, OPEN, "zone"),
    one("half past eleven is of that day", "2024-06-09T23:30:00-05:00", DAY, IN, "zone"),
    one("the first day, half past midnight", "2023-06-10T00:30:00+02:00", DAY, IN, "zone"),
    one("recorded days go before instants", "2024-06-11T00:30:00+14:00",
        f"{DAY}T20:00:00-10:00", OUT, "zone"),
    one("a time without a zone: its day counts", "2024-06-09T10:00:00", DAY, IN, "zone"),
    one("of one day, times without a zone", f"{DAY}T08:00:00", f"{DAY}T10:00:00", OPEN, "zone"),
]  # fmt: skip

PARTIAL = [
    one("MRI of the month before", "2024-05", DAY, IN, "partial"),
    one("MRI of the same month", "2024-06", DAY, OPEN, "partial"),
    one("MRI of the month of the first day", "2023-06", DAY, OPEN, "partial"),
    one("MRI of the month before that", "2023-05", DAY, OUT, "partial"),
    one("MRI of the same year", "2024", DAY, OPEN, "partial"),
    one("MRI of two years before", "2022", DAY, OUT, "partial"),
    one("MRI of the year after", "2025", DAY, OUT, "partial"),
    one("biopsy of a month, MRI before it", "2024-05-31", "2024-06", IN, "partial"),
    one("biopsy of a month, MRI in it", "2024-06-01", "2024-06", OPEN, "partial"),
    one("biopsy of a month, MRI on the last first day", "2023-06-30", "2024-06", IN, "partial"),
    one("biopsy of a month, MRI a day before that", "2023-06-29", "2024-06", OPEN, "partial"),
    one("biopsy of a month, MRI before every window", "2023-05-31", "2024-06", OUT, "partial"),
    one("biopsy of a period, MRI before it", "2024-06-09",
        {"start": DAY, "end": "2024-06-12"}, IN, "period"),
    one("biopsy of a period, MRI within", "2024-06-11",
        {"start": DAY, "end": "2024-06-12"}, OPEN, "period"),
    one("biopsy of a period, MRI after", "2024-06-13",
        {"start": DAY, "end": "2024-06-12"}, OUT, "period"),
    one("biopsy of a period without an end", "2024-06-09", {"start": DAY}, OPEN, "period"),
    one("biopsy of a period without an end, MRI long before", "2021-01-01", {"start": DAY}, OUT,
        "period"),
    one("biopsy of a period without a start", "2024-06-13", {"end": "2024-06-12"}, OUT, "period"),
]  # fmt: skip

AGES = [
    one("by age, the only day that is certain", "2028-12-24", 54, IN, "age"),
    one("by age, the birthday", "2028-12-25", 54, OPEN, "age"),
    one("by age, after it", "2029-12-25", 54, OUT, "age"),
    one("by age, the first day that may be in", "2027-12-25", 54, OPEN, "age"),
    one("by age, before every window", "2027-12-24", 54, OUT, "age"),
    Case("by age, no birth date", "age", [patient(None), mri("2024-01-01"), biopsy("b", 54)],
         {"b": (OPEN, "m")}),
    several("by age, no MRI", "age", [biopsy("b", 54)], b=(OUT, None)),
]  # fmt: skip

UNDATED = [
    one("an undated MRI", None, DAY, OPEN, "undated"),
    one("an MRI with a date that is none", "2024-13-45", DAY, OPEN, "undated"),
    one("an MRI whose date is not to be trusted", "2024-05-01", DAY, OPEN, "untrusted",
        meta=UNTRUSTED),
    one("an undated biopsy", "2024-05-01", None, OPEN, "undated"),
    several("an undated biopsy and no MRI", "undated", [biopsy("b", None)], b=(OUT, None)),
    several("a biopsy dated by words", "undated",
            [mri("2024-05-01"), biopsy("b", None, performedString="last spring")], b=(OPEN, "m")),
    several("a biopsy dated by a range of ages", "undated",
            [mri("2024-05-01"), biopsy("b", None, performedRange={
                "low": {"value": 50, "unit": "a"}, "high": {"value": 55, "unit": "a"}})],
            b=(OPEN, "m")),
    one("a period that ends before it starts", "2024-05-01",
        {"start": DAY, "end": "2024-01-01"}, OPEN, "undated"),
]  # fmt: skip


def _not_counted(name: str, kind: str, **elements: Any) -> Case:
    resources = [mri("2024-05-01", **elements), biopsy("b", DAY)]
    return several(name, kind, resources, b=(OUT, None))


def _series(*sites: Resource | None) -> list[Resource]:
    return [
        MR | {"uid": f"1.2.3.{number}"} | ({"bodySite": site} if site else {})
        for number, site in enumerate(sites)
    ]


CERTAIN = {"prostate": "certain"}
IMAGES = [
    *(_not_counted(f"an MRI that is {status}", "status", status=status)
      for status in ("registered", "cancelled", "entered-in-error", "unknown")),
    _not_counted("ultrasound only", "modality", modality="US"),
    _not_counted("CT only", "modality", modality="CT"),
    one("magnetic resonance beside another modality", "2024-05-01", DAY, IN, "modality",
        series=[{"uid": "1.2.4", "modality": {"system": DCM, "code": "SR"}}, *_series(PROSTATE)]),
    _not_counted("an MRI of the knee", "body-site", site=KNEE),
    one("an MRI of the pelvis", "2024-05-01", DAY, IN, "body-site", site=PELVIS),
    one("an MRI that states no body site", "2024-05-01", DAY, IN, "body-site", site=None),
    one("a series of the prostate beside one of another part", "2024-05-01", DAY, IN, "body-site",
        series=_series(KNEE, PROSTATE)),
    several("the MRI of the knee is nearer", "body-site",
            [mri("2024-06-01", "knee", site=KNEE), mri("2024-05-01"), biopsy("b", DAY)],
            b=(IN, "m")),
    one("certain: the prostate", "2024-05-01", DAY, IN, "setting", CERTAIN),
    several("certain: the pelvis", "setting",
            [mri("2024-05-01", site=PELVIS), biopsy("b", DAY)], CERTAIN, b=(OUT, None)),
    several("certain: no body site", "setting",
            [mri("2024-05-01", site=None), biopsy("b", DAY)], CERTAIN, b=(OUT, None)),
    several("certain: one of the prostate, a nearer one of the pelvis", "setting",
            [mri("2024-06-01", "pelvis", site=PELVIS), mri("2024-05-01"), biopsy("b", DAY)],
            CERTAIN, b=(IN, "m")),
    several("the prostate goes before a nearer pelvis", "body-site",
            [mri("2024-06-01", "pelvis", site=PELVIS), mri("2024-05-01"), biopsy("b", DAY)],
            b=(IN, "m")),
]  # fmt: skip

OTHER = {"resourceType": "Patient", "id": "p2", "birthDate": "1950-01-01"}
MERGED = {"resourceType": "Patient", "id": "p0", "active": False,
          "link": [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]}  # fmt: skip
CODE = {"coding": [{"system": "urn:local", "code": "BX"},
                   {"system": "http://snomed.info/sct", "code": "86273004"}]}  # fmt: skip
NEWER = {"versionId": "2", "lastUpdated": "2024-07-01T00:00:00Z"}
ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
                         "valueCode": "unknown"}]}  # fmt: skip
WHO = "urn:uuid:7c1f0f2e-8f3f-4f0e-9a39-3f0c6e7a0001"

COHORT = [
    *(several(f"a biopsy that is {status}", "status",
              [mri("2024-05-01"), biopsy("b", DAY, status=status)])
      for status in ("preparation", "in-progress", "not-done", "stopped", "entered-in-error",
                     "unknown")),
    several("another procedure", "code", [mri("2024-05-01"), dre("b", DAY)]),
    several("a biopsy by its second code", "code",
            [mri("2024-05-01"), biopsy("b", DAY, code=CODE)], b=(IN, "m")),
    several("no biopsy", "several", [mri("2024-05-01")]),
    several("several biopsies, each its own", "several",
            [mri("2024-05-01"), biopsy("first", "2024-01-01"), biopsy("second", DAY),
             biopsy("third", "2026-01-01")],
            first=(OUT, "m"), second=(IN, "m"), third=(OUT, "m")),
    several("the MRI of another patient", "several",
            [OTHER, mri("2024-05-01", subject="Patient/p2"), biopsy("b", DAY)], b=(OUT, None)),
    several("two patients", "several",
            [OTHER, mri("2024-05-01"), biopsy("b", DAY),
             biopsy("c", DAY, subject={"reference": "Patient/p2"})],
            b=(IN, "m"), c=(OUT, None)),
    several("a Patient that was merged", "references",
            [MERGED, mri("2024-05-01", subject="Patient/p0"), biopsy("b", DAY)], b=(IN, "m")),
    several("an absolute reference with a version", "references",
            [mri("2024-05-01", subject="https://fhir.example/r4/Patient/p1/_history/3"),
             biopsy("b", DAY)], b=(IN, "m")),
    Case("references by urn:uuid", "references",
         [patient(BIRTH), mri("2024-05-01", subject=WHO),
          biopsy("b", DAY, subject={"reference": WHO})], {"b": (IN, "m")}, full_urls=[WHO]),
    several("two versions of an MRI: the newer counts", "versions",
            [mri("2024-05-01"), mri("2021-05-01", meta=NEWER), biopsy("b", DAY)], b=(OUT, "m")),
    several("modality stated for the study alone", "modality",
            [without(mri("2024-05-01"), "series") | {"modality": [MR["modality"]]},
             biopsy("b", DAY)], b=(IN, "m")),
    several("modality stated for the study, not known of its series", "modality",
            [mri("2024-05-01", series=[{"uid": "1.2.4", "modality": ABSENT}])
             | {"modality": [MR["modality"]]},
             biopsy("b", DAY)], b=(IN, "m")),
]  # fmt: skip

CASES = [*WINDOW, *SAME_DAY, *PARTIAL, *AGES, *UNDATED, *IMAGES, *COHORT]
