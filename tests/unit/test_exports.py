"""Exports: what is read of files, whole or damaged, and that nothing of it is lost."""

import gzip
import io
import json
import os
import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.command_errors import (
    InputMalformed,
    InputTooLarge,
    InputUnreadable,
    PatientsUnknown,
)
from flute_sync.criteria_evidence import name_of
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.cohort_judging import Judging, Question, listed
from flute_sync.exports.files import cuts
from flute_sync.exports.json_text import texts
from flute_sync.exports.judging import ALONE_PIECES
from flute_sync.exports.loading import ALONE_BYTES
from flute_sync.exports.resources import Named, resources
from flute_sync.exports.spool import Spool
from flute_sync.flute_variables import Kind
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests import criteria_cases
from tests.histories import DCM, Resource, biopsy, patient, psa, study

CASES = json.loads(criteria_cases.FILE.read_text(encoding="utf-8"))
Answer = dict[str, tuple[str, str | None]]


def judged(source: Path, **asked: Any) -> tuple[Answer, Judging]:
    """What is said of an export, and the judging that said it."""
    settings_ = CriteriaSettings(**asked.pop("settings", {}))
    with Spool() as spool:
        judging = Judging(Question(source, None, settings_, **asked), spool)
        judging.read(lambda done, total: None)
        results = [one for found in judging.results() for one in found.results]
    return {
        one.biopsy.name: (one.verdict.value, one.study.name if one.study else None)
        for one in results
    }, judging


def ndjson(path: Path, *found: Resource) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")
    return path


def bundle(*found: Resource) -> Resource:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": x} for x in found],
    }


def expected(case: Any) -> Answer:
    return {one["biopsy"]: (one["verdict"], one["study"]) for one in case["expected"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_cases_as_bundles(case: Any, tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(case["bundle"], indent=2), encoding="utf-8")
    assert judged(file, settings=case["settings"])[0] == expected(case)


def test_all_cases_as_one_folder(tmp_path: Path) -> None:
    """Each case under patients of its own, a file for each type, in no order, with other files."""
    files: dict[str, list[Resource]] = {}
    wanted: Answer = {}
    for number, case in enumerate(CASES):
        if case["settings"] or any("fullUrl" in entry for entry in case["bundle"]["entry"]):
            continue
        text = json.dumps(case["bundle"])
        text = text.replace("Patient/p", f"Patient/c{number}-")
        for entry in json.loads(text)["entry"]:
            one = entry["resource"]
            name = one["id"].removeprefix("p") if one["resourceType"] == "Patient" else one["id"]
            files.setdefault(one["resourceType"], []).append({**one, "id": f"c{number}-{name}"})
        for one in case["expected"]:
            mri = one["study"] and one["study"].replace("/", f"/c{number}-")
            wanted[one["biopsy"].replace("/", f"/c{number}-")] = (one["verdict"], mri)
    for kind, found in files.items():
        random.Random(1).shuffle(found)
        (tmp_path / kind).mkdir()
        text = "\n\n".join(map(json.dumps, found))
        (tmp_path / kind / f"{kind}.ndjson").write_text(text, encoding="utf-8")
    (tmp_path / "README.txt").write_text("not JSON")
    assert judged(tmp_path)[0] == wanted


def test_a_group_and_a_list_choose(tmp_path: Path) -> None:
    def of(name: str) -> list[Resource]:
        subject = {"reference": f"Patient/{name}"}
        return [patient(name=name), biopsy(f"b-{name}", "2024-01-01", subject=subject)]

    member = [{"entity": {"reference": "Patient/b"}},
              {"entity": {"reference": "Patient/c"}, "inactive": True},
              {"entity": {"reference": "Practitioner/a"}},
              {"entity": {"reference": "https://x.example/fhir/Patient/none"}}]  # fmt: skip
    group = {"resourceType": "Group", "id": "g", "member": member}
    file = ndjson(tmp_path / "x.ndjson", *of("a"), *of("b"), *of("c"), group)
    found, judging = judged(file, group="Group/g")
    assert found.keys() == {"Procedure/b-b"}
    assert judging.tally.absent == 1
    names = tmp_path / "names"
    names.write_text("a\n\nPatient/c\r\nhttps://x.example/fhir/Patient/a\n")
    found, judging = judged(file, listed=listed(names))
    assert found.keys() == {"Procedure/b-a", "Procedure/b-c"}
    assert judging.tally.absent == 0
    with pytest.raises(PatientsUnknown):
        judged(file, group="Group/other")
    names.write_text("Observation/a\n")
    with pytest.raises(PatientsUnknown, match="line 1"):
        listed(names)
    with pytest.raises(PatientsUnknown):
        listed(tmp_path / "absent")


def test_a_merged_patient_is_chosen_by_either_name(tmp_path: Path) -> None:
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]
    old = {"resourceType": "Patient", "id": "old", "active": False, "link": link}
    file = ndjson(tmp_path / "x.ndjson", old, patient(), biopsy("b", "2024-01-01"),
                  study("m", "2023-12-01", subject="Patient/old"))  # fmt: skip
    for name in ("Patient/old", "Patient/p1"):
        found, judging = judged(file, listed=(name,))
        assert found == {"Procedure/b": ("included", "ImagingStudy/m")}
        assert (judging.tally.patients, judging.tally.absent) == (1, 0)


def test_merged_in_a_circle(tmp_path: Path) -> None:
    def replaced(name: str, by: str) -> Resource:
        link = [{"type": "replaced-by", "other": {"reference": f"Patient/{by}"}}]
        return {"resourceType": "Patient", "id": name, "link": link}

    file = ndjson(tmp_path / "x.ndjson", replaced("p1", "p2"), replaced("p2", "p1"),
                  biopsy("b", "2024-01-01"))  # fmt: skip
    assert judged(file)[0] == {"Procedure/b": ("excluded", None)}


def test_what_names_nobody_is_counted(tmp_path: Path) -> None:
    logical = {"identifier": {"system": "urn:x", "value": "1"}}
    resources_ = [patient(), biopsy("b", "2024-01-01"), study("m", "2024-01-01"), psa("o", None, 5)]
    file = ndjson(tmp_path / "x.ndjson", *({**one, "subject": logical} for one in resources_))
    found, judging = judged(file)
    assert found == {}
    assert judging.tally.without_patient == 2


IDENTIFIED = {"identifier": {"system": "urn:hospital", "value": "4711"}}
INCLUDED = {"Procedure/b": ("included", "ImagingStudy/m")}


def identified(name: str) -> Resource:
    return patient(name=name) | {"identifier": [{"use": "usual", **IDENTIFIED["identifier"]}]}


def test_a_subject_by_identifier_is_the_one_patient_who_has_it(tmp_path: Path) -> None:
    mri = study("m", "2023-12-01") | {"subject": IDENTIFIED}
    resources_ = [mri, biopsy("b", "2024-01-01"), identified("p1")]
    found, judging = judged(ndjson(tmp_path / "x.ndjson", *resources_))
    assert found == INCLUDED
    assert (judging.tally.without_patient, judging.tally.patients) == (0, 1)
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]
    merged = identified("p0") | {"link": link}
    assert judged(ndjson(tmp_path / "x.ndjson", *resources_, merged))[0] == INCLUDED
    found, judging = judged(ndjson(tmp_path / "x.ndjson", *resources_, identified("p2")))
    assert found == {"Procedure/b": ("excluded", None)}
    assert (judging.tally.without_patient, judging.tally.patients) == (1, 2)


def test_who_replaces_another_has_what_was_his(tmp_path: Path) -> None:
    link = [{"type": "replaces", "other": {"reference": "Patient/old"}}]
    file = ndjson(tmp_path / "x.ndjson", patient() | {"link": link}, biopsy("b", "2024-01-01"),
                  study("m", "2023-12-01", subject="Patient/old"))  # fmt: skip
    assert judged(file)[0] == INCLUDED


def version(resource: Resource, number: int | None, updated: str | None = None) -> Resource:
    meta = {"versionId": number and str(number), "lastUpdated": updated}
    return resource | {"meta": {name: value for name, value in meta.items() if value}}


def test_of_several_versions_the_newest_counts(tmp_path: Path) -> None:
    later, moved = study("m", "2023-12-01"), study("m", "2023-12-01", subject="Patient/p2")
    early = study("m", "2020-12-01")
    file, done = tmp_path / "x.ndjson", biopsy("b", "2024-01-01")
    assert judged(ndjson(file, version(later, 10), done, version(early, 9)))[0] == INCLUDED
    new, old = "2024-02-01T00:00:00Z", "2024-01-01T00:00:00Z"
    found = judged(ndjson(file, version(later, None, new), version(early, None, old), done))[0]
    assert found == INCLUDED
    zoned = "2024-02-01T01:00:00+02:00"  # earlier than the one that sorts before it
    opaque = [{**one, "meta": {**one["meta"], "versionId": name}}
              for one, name in ((version(later, None, "2024-01-31T23:30:00Z"), "MTcw"),
                                (version(early, None, zoned), "ZZZ"))]  # fmt: skip
    assert judged(ndjson(file, *opaque, done))[0] == INCLUDED
    found = judged(ndjson(file, version(moved, 2), version(later, 1), done))[0]
    assert found == {"Procedure/b": ("excluded", None)}
    assert judged(ndjson(file, version(moved, 1), version(later, 2), done))[0] == INCLUDED


def test_copies_that_differ_without_a_version_end_it(tmp_path: Path) -> None:
    mri, done = study("m", "2023-12-01"), biopsy("b", "2024-01-01")
    assert judged(ndjson(tmp_path / "x.ndjson", mri, done, mri, done))[0] == INCLUDED
    with pytest.raises(InputMalformed, match="two copies of one ImagingStudy differ"):
        judged(ndjson(tmp_path / "x.ndjson", mri, done, study("m", "2020-12-01")))


def test_what_was_deleted_does_not_count(tmp_path: Path) -> None:
    """A Bundle of a history, and the Bundles that a bulk export lists as deleted."""
    updated = "2024-02-01T00:00:00Z"
    found = [biopsy("b", "2024-01-01"), version(study("m", "2023-12-01"), 1, updated)]

    def verdict(at: str | None) -> str:
        entry: Resource = {"request": {"method": "DELETE", "url": "ImagingStudy/m"}}
        entry |= {"response": {"status": "204", "lastModified": at}} if at else {}
        gone = {"resourceType": "Bundle", "type": "history", "entry": [entry]}
        return judged(ndjson(tmp_path / "x.ndjson", gone, *found))[0]["Procedure/b"][0]

    assert verdict(None) == verdict("2024-03-01T00:00:00Z") == "excluded"
    assert verdict("2024-01-01T00:00:00Z") == "included"


def test_resources_without_an_id_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for name, day in (("a", "2024-01-01"), ("b", "2026-01-01")):
        (tmp_path / name).mkdir()
        nameless = [{key: value for key, value in one.items() if key != "id"}
                    for one in (study("m", "2023-12-01"), biopsy("b", day))]  # fmt: skip
        (tmp_path / name / "bundle.json").write_text(json.dumps(bundle(*nameless)))
    found = judged(tmp_path)[0]
    assert sorted(verdict for verdict, _ in found.values()) == ["excluded", "included"]


def test_a_link_by_the_name_that_a_bundle_gives(tmp_path: Path) -> None:
    link = {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": "urn:uuid:1"}}
    made = bundle(patient(), study("m", "2023-12-01", extension=[link]), psa("o", "2023-12-01", 5))
    made["entry"][2]["fullUrl"] = "urn:uuid:1"
    (tmp_path / "x.json").write_text(json.dumps(made))
    tally = judged(tmp_path)[1].tally
    assert tally.linked[Kind.PSA] == tally.used[Kind.PSA] == 1


def test_what_is_compressed_is_not_passed_over(tmp_path: Path) -> None:
    ndjson(tmp_path / "Procedure.ndjson", biopsy("b", "2024-01-01"))
    packed = tmp_path / "ImagingStudy.ndjson.gz"
    packed.write_bytes(gzip.compress(json.dumps(study("m", "2023-12-01")).encode()))
    for source in (tmp_path, packed):
        with pytest.raises(InputMalformed, match=r"ImagingStudy.ndjson.gz is compressed"):
            judged(source)
    ndjson(tmp_path / "ImagingStudy.ndjson", study("m", "2023-12-01"))
    assert judged(tmp_path)[0] == INCLUDED


def test_a_line_too_long_is_told_and_not_held(tmp_path: Path) -> None:
    file = ndjson(tmp_path / "x.ndjson", patient())
    with file.open("r+b") as more:
        more.truncate(2 * 1024**3)  # a hole of two gigabytes without an end of line
    with pytest.raises(InputTooLarge, match=r"x.ndjson, line 2, the line at byte"):
        judged(file)


def test_many_processes_judge_the_same(tmp_path: Path) -> None:
    """So many that other processes judge them, in order and each once."""
    people = ALONE_PIECES // 4
    with (tmp_path / "x.ndjson").open("w") as file:
        made = [patient(name="NAME"), biopsy("NAME", "2024-01-01"), psa("NAME", "2023-11-01", 5),
                study("NAME", "2023-12-01")]  # fmt: skip
        text = "".join(json.dumps(one) + "\n" for one in made).replace("Patient/p1", "Patient/NAME")
        for number in range(people + 1):
            file.write(text.replace("NAME", f"n{number:06}"))
    found, judging = judged(tmp_path)
    assert list(found) == [f"Procedure/n{number:06}" for number in range(people + 1)]
    assert {verdict for verdict, _ in found.values()} == {"included"}
    assert judging.tally.as_dict()["links"]["PR_ProstateSpecificAntigen"]["resources"] == people + 1
    assert (judging.tally.first, judging.tally.last) == (date(2024, 1, 1), date(2024, 1, 1))
    assert len(judging.included) == judging.tally.eligible == people + 1


def test_digits_of_an_age_count(tmp_path: Path) -> None:
    """54.50 years are exact to 0.01, 54.5 to 0.1: only the first can be decided."""
    text = json.dumps(biopsy("b", 54)).replace("54", "54.50", 1)
    lines = [json.dumps(patient("1974-12-25")), text, json.dumps(study("m", "2029-05-25"))]
    verdicts = set()
    for digits in ("54.50", "54.5"):
        for suffix, template in (("ndjson", "{}"), ("json", "{}")):
            file = tmp_path / f"x-{digits}.{suffix}"
            file.write_text(template.format("\n".join(lines)).replace("54.50", digits))
            verdicts.add((digits, judged(file)[0]["Procedure/b"][0]))
    assert verdicts == {("54.50", "included"), ("54.5", "unknown")}


def test_bundles_within_bundles_and_lines(tmp_path: Path) -> None:
    inner = bundle(study("m", "2023-12-01"), biopsy("b", "2024-01-01"))
    wanted = {"Procedure/b": ("included", "ImagingStudy/m")}
    assert judged(ndjson(tmp_path / "a.ndjson", bundle(patient(), inner)))[0] == wanted
    file = tmp_path / "b.json"
    file.write_text(json.dumps(patient()) + json.dumps(bundle(inner)))
    assert judged(file)[0] == wanted


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("Patient/p1", "Patient/p1"),
        ("Patient/P/_history/3", "Patient/P"),
        ("https://x.example/a/b/Patient/p_1", "Patient/p_1"),
        ("http://Host/Patient/Pat/_history/1", "Patient/Pat"),
        ("urn:uuid:1", "urn:uuid:1"),
        ("#p", None),
        ("Patient", None),
        ("Patient/", None),
        ("patient/p1", None),
        ("Patient?identifier=x|1", None),
        (5, None),
        (None, None),
    ],
)
def test_names_at_the_end_of_addresses(address: object, name: str | None) -> None:
    assert name_of(address) == name


HOSTILE = {
    "an array": b"[]",
    "a number": b"17",
    "no JSON": b"{'resourceType': 'Patient'}",
    "cut off": b'{"resourceType": "Patient", "id": "Rossi"',
    "not UTF-8": b'{"resourceType": "Patient", "id": "Ros\xffsi"}',
    "NaN": b'{"resourceType": "Patient", "id": "Rossi", "x": NaN}',
    "no type": b'{"id": "Rossi"}',
    "a type that is none": b'{"resourceType": 5, "id": "Rossi"}',
    "too deep": b'{"resourceType": "Patient", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an entry that is none": b'{"resourceType": "Bundle", "entry": ["Rossi"]}',
    "entries that are none": b'{"resourceType": "Bundle", "entry": {"resource": "Rossi"}}',
    "a resource that is none": b'{"resourceType": "Bundle", "entry": [{"resource": "Rossi"}]}',
    "an id to break the terminal": b'{"resourceType": "Patient", "id": "Rossi\\u001b[2J"}',
    "half a character": b'{"resourceType": "Patient", "id": "Ros\\ud800si"}',
    "a name twice open": b'{"resourceType": "Patient", "id": "Rossi"}}',
    "bundles without an end": b'{"resourceType": "Bundle", "entry": [{"resource": ' * 20
    + b'{"resourceType": "Bundle", "entry": []}' + b"}]}" * 20,
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "ndjson"])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_damaged_ends_it_and_names_nobody(
    content: bytes, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"export.{suffix}"
    file.write_bytes(json.dumps(patient()).encode() + b"\n" + content + b"\n")
    with pytest.raises(InputMalformed) as raised:
        judged(file)
    assert "export." in raised.value.detail
    assert "Ros" not in raised.value.sentence


def test_odd_values_are_no_damage(tmp_path: Path) -> None:
    odd = '{"resourceType":"Procedure","id":"o","meta":{"versionId":%s},"status":"completed",' % (
        "9" * 40
    )
    odd += '"code":{"coding":[{"system":"http://snomed.info/sct","code":"86273004"}]},'
    odd += '"subject":{"reference":"Patient/p1"},"performedAge":{"value":1e999,"code":"a"}}'
    for suffix in ("json", "ndjson"):
        file = tmp_path / f"x.{suffix}"
        file.write_text("\ufeff" + json.dumps(study("m", "2024-01-01")) + "\n\n" + odd)
        assert judged(file)[0] == {"Procedure/o": ("unknown", "ImagingStudy/m")}


@pytest.mark.parametrize("name", ["absent", "empty", "pipe", "link", "pipe/pipe.json"])
def test_nothing_to_read(name: str, tmp_path: Path) -> None:
    for folder in ("empty", "link"):
        (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link" / "x.ndjson").symlink_to(tmp_path / "absent")
    with pytest.raises(InputUnreadable):
        judged(tmp_path / name)


def test_what_else_lies_in_a_folder_is_counted(tmp_path: Path) -> None:
    deep = tmp_path / "export.d" / "1"
    deep.mkdir(parents=True)
    ndjson(deep / "ImagingStudy.000.NDJSON", study("m", "2023-12-01"))
    ndjson(tmp_path / "Procedure.jsonl", biopsy("b", "2024-01-01"))
    manifest = {"transactionTime": "2024-01-01T00:00:00Z", "output": [], "error": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found, judging = judged(tmp_path)
    assert (found, judging.tally.files_not_read) == (INCLUDED, 0)
    (deep / "ImagingStudy").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "more").symlink_to(deep)
    found, judging = judged(tmp_path)
    assert (found, judging.tally.files_not_read) == (INCLUDED, 2)
    (tmp_path / "manifest.json").write_text(json.dumps(patient()))
    assert judged(tmp_path)[1].tally.patients == 1
    (tmp_path / "manifest.json").write_text(json.dumps({"output": []}))
    with pytest.raises(InputMalformed, match=r"manifest\.json"):
        judged(tmp_path)


def page(number: int, following: int | None, *found: Resource) -> Resource:
    """One page of a search; the server orders the query of its own address in another way."""
    at = "https://fhir.example/ImagingStudy"
    links = [{"relation": "self", "url": f"{at}?_offset={number}&_count=1"}]
    if following is not None:
        links.append({"relation": "next", "url": f"{at}?_count=1&_offset={following}"})
    return bundle(*found) | {"link": links}


def test_a_page_of_a_search_that_is_not_there_is_told(tmp_path: Path) -> None:
    pages = [
        page(0, 1, biopsy("b", "2024-01-01")),
        page(1, 2, study("m", "2023-12-01")),
        page(2, None, patient()),
    ]
    for number, one in enumerate(pages):
        (tmp_path / f"{number}.json").write_text(json.dumps(one))
    found, judging = judged(tmp_path)
    assert (found, judging.tally.pages_missing) == (INCLUDED, 0)
    (tmp_path / "1.json").unlink()
    assert judged(tmp_path)[1].tally.pages_missing == 1
    assert judged(ndjson(tmp_path / "x.ndjson", *pages[:2]))[1].tally.pages_missing == 1
    odd = bundle(patient()) | {"link": [{"relation": "next", "url": "http://[x"}, {"url": 3}, 4]}
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    assert judged(tmp_path / "odd.json")[1].tally.pages_missing == 1


def test_an_empty_file_has_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.ndjson").touch()
    (tmp_path / "y.json").touch()
    assert judged(tmp_path)[0] == {}


def test_many_processes_read_the_same(tmp_path: Path) -> None:
    """So large that other processes read it; a damaged line in one of them is told as here."""
    image = {"uid": "1.2.3", "sopClass": {"system": DCM, "code": "x" * 100}}
    series = [{"modality": {"system": DCM, "code": "MR"}, "instance": [image] * 10_000}]
    line = json.dumps(study("NAME", "2024-01-01", subject="Patient/NAME", series=series))
    found = [patient(name=f"n{number}") for number in range(30)]
    found += [
        biopsy(f"b{number}", "2024-02-01", subject={"reference": f"Patient/n{number}"})
        for number in range(30)
    ]
    file = ndjson(tmp_path / "x.ndjson", *found)
    with file.open("a", encoding="utf-8") as more:
        more.writelines(line.replace("NAME", f"n{number}") + "\n" for number in range(30))
    assert file.stat().st_size > ALONE_BYTES
    assert judged(file)[0] == {
        f"Procedure/b{number}": ("included", f"ImagingStudy/n{number}") for number in range(30)
    }
    with file.open("a", encoding="utf-8") as more:
        more.write('{"resourceType": "Patient", "id": "Rossi"\n')
    with pytest.raises(
        InputMalformed, match=r"^The input is not .*: x.ndjson, line 91, the line at byte"
    ):
        judged(file)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**16), 10**16), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(
    st.one_of(st.text(max_size=4), st.just("entry")), VALUES | st.lists(VALUES), max_size=4
)


@given(st.lists(OBJECTS, max_size=4), st.booleans(), st.sampled_from(["", " ", "\n", "\r\n\t"]))
def test_texts_are_read_as_the_whole_would_be(
    found: list[dict[str, Any]], ascii_only: bool, space: str
) -> None:
    text = space.join(json.dumps(one, ensure_ascii=ascii_only) for one in found)
    read = []
    for parts in texts(io.BytesIO(text.encode("utf-8", "surrogatepass"))):
        pieces = list(parts)
        rest = pieces.pop()
        entries = [one["entry"] for one in pieces]
        read.append({"entry": entries} | rest)
    wanted = [one if "entry" in one else one | {"entry": []} for one in found]
    assert read == wanted


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(1, 120),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
)
def test_no_line_is_lost_or_doubled_by_cuts(
    tmp_path_factory: Any, lengths: list[int], size: int, end: str, ends_with_line: bool
) -> None:
    lines = [
        json.dumps({"resourceType": "Basic", "id": f"{number}", "x": "y" * length})
        for number, length in enumerate(lengths)
    ]
    file = tmp_path_factory.mktemp("cuts") / "x.ndjson"
    file.write_bytes((end.join(lines) + (end if ends_with_line else "")).encode())
    found = (one for cut in cuts([file], size) for one in resources(cut))
    read = [one.name for one in found if isinstance(one, Named)]
    assert read == [f"Basic/{number}" for number in range(len(lines))]


@pytest.mark.parametrize(
    "named",
    [
        {"subject": {"reference": "Patient?identifier=urn:hospital%7C4711"}},
        {
            "subject": {"reference": "#p"},
            "contained": [{"resourceType": "Patient", "id": "p",
                           "identifier": [IDENTIFIED["identifier"]]}],
        },
    ],
    ids=["conditional", "contained"],
)  # fmt: skip
def test_an_identifier_may_stand_elsewhere(tmp_path: Path, named: Resource) -> None:
    mri = study("m", "2023-12-01") | named
    found, judging = judged(
        ndjson(tmp_path / "x.ndjson", mri, biopsy("b", "2024-01-01"), identified("p1"))
    )
    assert found == INCLUDED
    assert judging.tally.without_patient == 0


def a_group(name: str, version: str, *members: Resource) -> Resource:
    meta = {"versionId": version}
    return {"resourceType": "Group", "id": name, "meta": meta, "member": list(members)}


def test_the_members_of_groups_in_a_group_are_members(tmp_path: Path) -> None:
    people = [biopsy("b", "2024-01-01"), patient(), patient(name="p2"), patient(name="p3")]
    p1, p2 = ({"entity": {"reference": f"Patient/{name}"}} for name in ("p1", "p2"))
    inner = {"entity": {"reference": "https://h.example/Group/inner/_history/4"}}
    circle = {"entity": {"reference": "Group/g", "type": "Group"}}
    file = ndjson(
        tmp_path / "x.ndjson", *people, a_group("g", "1", p2, inner), a_group("inner", "2", circle),
        a_group("inner", "10", p1, p2, circle),
    )  # fmt: skip
    found, judging = judged(file, group="Group/g")
    assert found.keys() == {"Procedure/b"}
    assert (judging.tally.patients, judging.tally.absent) == (2, 0)


@pytest.mark.parametrize(
    "entity", [{"reference": "Group/inner"}, {"type": "Group", "identifier": {"value": "1"}}]
)
def test_a_group_in_a_group_that_is_not_there_is_told(tmp_path: Path, entity: Resource) -> None:
    people = [biopsy("b", "2024-01-01"), patient()]
    p1 = {"entity": {"reference": "Patient/p1"}}
    file = ndjson(tmp_path / "x.ndjson", *people, a_group("g", "2", p1, {"entity": entity}))
    with pytest.raises(PatientsUnknown, match=r"Group.* is not in the input"):
        judged(file, group="Group/g")
    later = a_group("g", "3", p1, {"entity": entity, "inactive": True})
    other = a_group("other", "1", {"entity": entity})
    file = ndjson(
        tmp_path / "y.ndjson", *people, a_group("g", "2", {"entity": entity}), later, other
    )
    assert judged(file, group="Group/g")[0].keys() == {"Procedure/b"}


def test_members_of_a_group_by_identifier_and_of_its_newest_copy(tmp_path: Path) -> None:
    def members(version: str, *entities: Resource) -> Resource:
        return a_group("g", version, *({"entity": one} for one in entities))

    p2, absent = {"reference": "Patient/p2"}, {"identifier": {"system": "urn:x", "value": "9"}}
    people = [biopsy("b", "2024-01-01"), identified("p1"), patient(name="p2")]
    file = ndjson(
        tmp_path / "x.ndjson", members("10", IDENTIFIED, absent), members("9", p2), *people
    )
    found, judging = judged(file, group="Group/g")
    assert found == {"Procedure/b": ("excluded", None)}
    assert (judging.tally.patients, judging.tally.absent) == (1, 1)
    file = ndjson(tmp_path / "y.ndjson", members("1", IDENTIFIED), *people, identified("p3"))
    found, judging = judged(file, group="Group/g")
    assert (found, judging.tally.absent) == ({}, 1)
