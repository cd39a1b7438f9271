"""The Store Instances Response Module, read and written as JSON and as XML."""

from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from flute_sync.archive_errors import ArchiveServerError
from flute_sync.dicom_errors import HeaderUidMissing
from flute_sync.sources.http_messages import Representation
from flute_sync.sources.native_model import KEYWORDS, from_xml, to_xml
from flute_sync.sources.stow_response import StoreResponse
from flute_sync.upload_errors import UnsupportedMediaType
from tests.stow import MR, store_answer

JSON = "application/dicom+json"


def text(without: str = "", **sizes: int) -> st.SearchStrategy[str]:
    """Text that XML can carry."""
    unwanted = f"\ufffe\uffff{without}"
    return st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=unwanted), **sizes
    )


COMPONENTS = st.tuples(st.lists(text("^"), max_size=4), text("^", min_size=1))
NAMES = st.dictionaries(
    st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]),
    COMPONENTS.map(lambda name: "^".join([*name[0], name[1]])),
    min_size=1,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "LO": text(min_size=1),
    "UI": st.from_regex(r"[1-9](\.[1-9]){1,5}", fullmatch=True),
    "US": st.integers(0, 65535),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
    "PN": NAMES,
}
TAGS = st.integers(0x00080000, 0x0040FFFF).map(lambda tag: f"{tag:08X}")
FLAT = st.sampled_from(sorted(VALUES)).flatmap(
    lambda vr: st.fixed_dictionaries(
        {"vr": st.just(vr), "Value": st.lists(VALUES[vr], min_size=1, max_size=3)}
    )
)
LEAF = FLAT | st.fixed_dictionaries({"vr": st.just("OB"), "InlineBinary": st.just("AAE=")})
DATASETS = st.recursive(
    st.dictionaries(TAGS, LEAF | st.just({"vr": "LO"}), max_size=4),
    lambda inner: st.dictionaries(
        TAGS,
        st.fixed_dictionaries({"vr": st.just("SQ"), "Value": st.lists(inner, min_size=1)}),
        max_size=2,
    ),
    max_leaves=6,
)


@settings(max_examples=40)
@given(DATASETS)
def test_xml_says_what_json_says(dataset: dict[str, Any]) -> None:
    assert from_xml(to_xml(dataset)) == dataset


def test_xml_leaves_out_what_it_cannot_hold() -> None:
    written = to_xml({"00081030": {"vr": "LO", "Value": ["a\0b\x1fc", None]}})
    assert from_xml(written) == {"00081030": {"vr": "LO", "Value": ["abc"]}}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<a/>",
        b"<NativeDicomModel><DicomAttribute/></NativeDicomModel>",
        (
            b'<NativeDicomModel><DicomAttribute tag="00081197" vr="US"><Value>x</Value>'
            b"</DicomAttribute></NativeDicomModel>"
        ),
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>',
    ],
)
def test_what_is_not_the_native_model_is_refused(document: bytes) -> None:
    with pytest.raises(ArchiveServerError):
        from_xml(document)


@pytest.mark.parametrize("kind", [JSON, "application/json", "application/dicom+xml; q=1"])
def test_an_archive_may_answer_in_json_or_xml(kind: str) -> None:
    body = store_answer(["1.2", "1.3"], ["1.4"])
    if "xml" in kind:
        body = to_xml(orjson.loads(body))
    response = StoreResponse.read(kind, body)
    assert (response.stored(), response.failed()) == (["1.2", "1.3"], ["1.4"])


def test_orthanc_s_xml_is_understood() -> None:
    body = (
        b'<?xml version="1.0" encoding="utf-8"?><NativeDicomModel>'
        b'<DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL"><Value number="1">'
        b"http://h/dicom-web/studies/1</Value></DicomAttribute>"
        b'<DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence" />'
        b'<DicomAttribute tag="00081199" vr="SQ"><Item number="1"><DicomAttribute tag="00081155"'
        b' vr="UI"><Value number="1">1.2 </Value></DicomAttribute></Item></DicomAttribute>'
        b"</NativeDicomModel>"
    )
    assert StoreResponse.read("application/dicom+xml", body).stored() == ["1.2"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"[{}, {}]",
        b"{}",
        b'{"00081199": {"vr": "SQ", "Value": "no"}}',
        b'{"00081199": {"vr": "SQ", "Value": [1]}}',
        b'{"00081199": []}',
        b'{"00081199": {"vr": "SQ", "Value": [{}]}}',
        b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [1]}}]}}',
    ],
)
def test_what_is_not_a_response_is_refused(body: bytes) -> None:
    with pytest.raises(ArchiveServerError):
        StoreResponse.read(JSON, body)


def test_what_failed_without_a_name_is_no_name() -> None:
    body = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'
    assert StoreResponse.read(JSON, body).failed() == []


def test_our_own_failures_join_those_of_the_archive() -> None:
    response = StoreResponse.read(JSON, store_answer(["1.2"], ["1.3"]))
    response.add_refused(UnsupportedMediaType())
    response.add_refused(HeaderUidMissing(sop_class_uid=MR, sop_instance_uid="1.4"))
    reply = response.reply(202, Representation.JSON)
    read = Dataset.from_json(reply.body.decode())
    failed = [
        (item.ReferencedSOPInstanceUID, item.FailureReason) for item in read.FailedSOPSequence
    ]
    assert failed == [("1.3", 0x0110), ("", 0xC000), ("1.4", 0xC000)]


def test_urls_lead_where_they_are_told() -> None:
    response = StoreResponse.read(JSON, store_answer(["1.2"], base="http://pacs:8042/deep/web"))
    response.lead_to("https://gate/dicom-web")
    written = response.reply(200, Representation.JSON).body
    assert b"pacs" not in written
    read = Dataset.from_json(written.decode())
    assert read.RetrieveURL == "https://gate/dicom-web/studies/1"
    item = read.ReferencedSOPSequence[0]
    assert item.RetrieveURL == "https://gate/dicom-web/studies/1/series/2/instances/1.2"


def test_attributes_we_do_not_know_are_kept() -> None:
    body = orjson.loads(store_answer(["1.2"]))
    body["00081199"]["Value"][0]["00081196"] = {"vr": "US", "Value": [45056]}
    reply = StoreResponse.read(JSON, orjson.dumps(body)).reply(200, Representation.XML)
    tree = ElementTree.fromstring(reply.body)
    values = [v.text for a in tree.iter() if a.get("keyword") == "WarningReason" for v in a]
    assert values == ["45056"]
    assert reply.content_type == "application/dicom+xml"


def test_keywords_are_those_of_the_dictionary() -> None:
    assert {tag: keyword_for_tag(int(tag, 16)) for tag in KEYWORDS} == KEYWORDS
