"""Which studies a site wants."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from flute_sync.selection import SelectSettings, judge, judge_patient, rules_digest
from flute_sync.study import Code
from tests.studies import KO, MR, SC, SR, US, header, mpmri, series_of, study_of, trus


def wanted(study, **rules):
    return judge(study, SelectSettings(**rules)).wanted


def study_with(*headers, **other):
    return study_of(*(series_of(n, one) for n, one in enumerate(headers, 1)), **other)


DOCUMENTS = study_with(header(SR, modality="SR"), header(KO, modality="KO"))
HEAD_MR_AND_PROSTATE_US = study_with(
    header(MR, modality="MR", body_part="HEAD"), header(US, modality="US", body_part="PROSTATE")
)
WITHOUT_BODY_PART = study_with(header(MR, modality="MR"), header(SR, modality="SR"))
WITHOUT_MODALITY = study_with(header(SC))


@pytest.mark.parametrize("study", [mpmri(), trus(), DOCUMENTS, study_of(), WITHOUT_MODALITY])
def test_no_rule_wants_everything(study):
    assert wanted(study)
    assert wanted(study, strict=True)


@pytest.mark.parametrize(
    ("study", "rules", "expected"),
    [
        (mpmri(), {"modalities": ["MR"]}, True),
        (mpmri(), {"modalities": ["mr"]}, True),
        (mpmri(), {"modalities": ["US", "CT"]}, False),
        (mpmri(), {"modalities": ["SEG"]}, True),
        (trus(), {"modalities": ["MR", "US"]}, True),
        (mpmri(), {"body_parts": ["PROSTATE"]}, True),
        (mpmri(), {"body_parts": ["41216001"]}, True),
        (mpmri(), {"body_parts": ["Pelvis"]}, False),
        (trus(), {"body_parts": ["RECTUM"]}, True),
        (HEAD_MR_AND_PROSTATE_US, {"modalities": ["MR"], "body_parts": ["PROSTATE"]}, False),
        (HEAD_MR_AND_PROSTATE_US, {"modalities": ["US"], "body_parts": ["PROSTATE"]}, True),
        (WITHOUT_BODY_PART, {"modalities": ["MR"], "body_parts": ["PROSTATE"]}, True),
        (WITHOUT_BODY_PART, {"body_parts": ["PROSTATE"], "strict": True}, False),
        (WITHOUT_MODALITY, {"modalities": ["MR"]}, True),
        (WITHOUT_MODALITY, {"modalities": ["MR"], "strict": True}, False),
        (WITHOUT_MODALITY, {"body_parts": ["PROSTATE"]}, True),
        (study_with(header(MR)), {"modalities": ["MR"], "strict": True}, True),
        (study_with(header(US), header(SC)), {"modalities": ["MR"]}, False),
        (mpmri(), {"procedure_codes": ["RPID2235"]}, True),
        (mpmri(), {"procedure_codes": ["RADLEX|RPID2235"]}, True),
        (mpmri(), {"procedure_codes": ["LN|RPID2235"]}, False),
        (mpmri(), {"procedure_codes": ["RPID2235"], "modalities": ["CT"]}, False),
    ],
)
def test_rules_on_content(study, rules, expected):
    assert wanted(study, **rules) is expected


def test_a_local_word_for_a_body_part_is_matched_as_written():
    assert wanted(study_with(header(MR, body_part="Unterbauch")), body_parts=["UNTERBAUCH"])
    local = header(MR, anatomic_regions=(Code("UB", "99SITE", "Unterbauch"),))
    assert wanted(study_with(local), body_parts=["UB"])


def test_a_study_without_procedure_code_is_kept_unless_strict():
    plain = header()
    study = study_with(replace(plain, study=replace(plain.study, procedure_codes=())))
    assert wanted(study, procedure_codes=["RPID2235"])
    assert not wanted(study, procedure_codes=["RPID2235"], strict=True)


@pytest.mark.parametrize("rules", [{"modalities": ["MR"]}, {"body_parts": ["PROSTATE"]}])
@pytest.mark.parametrize("study", [DOCUMENTS, study_of()])
def test_documents_that_come_first_wait_for_their_images(study, rules):
    verdict = judge(study, SelectSettings(**rules))
    assert not verdict.wanted
    assert "no images yet" in verdict.reason


def test_documents_are_wanted_where_they_are_asked_for():
    assert wanted(DOCUMENTS, modalities=["SR"])


@pytest.mark.parametrize(
    ("senders", "expected"), [({"MRI1", "PACS"}, True), ({"PACS"}, False), (set(), False)]
)
def test_the_sender_must_be_one_of_those_named(senders, expected):
    study = replace(mpmri(), calling_ae_titles=frozenset(senders))
    assert wanted(study, calling_ae_titles=["MRI1", "MRI2"]) is expected


@pytest.mark.parametrize(
    ("patients", "reference", "expected"),
    [
        ("all", None, True),
        ("known", None, False),
        ("known", "Patient/1", True),
        ("Group/flute", None, False),
        ("Group/flute", "Patient/1", True),
        ("Group/flute", "Patient/2", False),
    ],
)
def test_patients(patients, reference, expected):
    settings = SelectSettings(patients=patients)
    assert judge_patient(reference, settings, {"Patient/1"}).wanted is expected


def test_a_reason_quotes_nothing_of_the_study():
    study = study_with(header(MR, modality="CT", body_part="SECRET"))
    for rules in ({"modalities": ["MR"]}, {"body_parts": ["PROSTATE"]}):
        reason = judge(study, SelectSettings(**rules)).reason
        assert "SECRET" not in reason
        assert "CT" not in reason


@pytest.mark.parametrize(
    "rules", [{"patients": "some"}, {"patients": "Group/"}, {"modalities": ["M/R"]}, {"other": 1}]
)
def test_rules_that_cannot_be_meant_are_refused(rules):
    with pytest.raises(ValidationError):
        SelectSettings(**rules)


def test_the_digest_names_what_is_asked_for_and_not_its_order():
    one = SelectSettings(modalities=("MR", "US"))
    assert rules_digest(one) == rules_digest(SelectSettings(modalities=("us", "MR")))
    others = (
        SelectSettings(),
        SelectSettings(modalities=("MR",)),
        SelectSettings(body_parts=("MR", "US")),
        SelectSettings(modalities=("MR", "US"), strict=True),
        SelectSettings(modalities=("MR", "US"), patients="known"),
    )
    assert len({rules_digest(one), *map(rules_digest, others)}) == 6
