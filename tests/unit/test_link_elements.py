"""Links as they stand in a resource."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flute_sync.link_elements import link_element, links_of, with_links, without_links
from flute_sync.terminology import EU_ANATOMICAL_REGION, FLUTE_SUPPORTING_INFO

BASE = "http://fhir.example/fhir"
OTHER = {"url": EU_ANATOMICAL_REGION, "valueCodeableConcept": {"text": "pelvis"}}
REFERENCES = st.from_regex(r"\A(Observation|Procedure)/[a-z0-9]{1,4}\Z")


def test_a_link_is_the_extension_of_the_guide() -> None:
    assert link_element("Observation/1", "PSA") == {
        "url": FLUTE_SUPPORTING_INFO,
        "valueReference": {"reference": "Observation/1", "display": "PSA"},
    }
    assert "display" not in link_element("Observation/1", None)["valueReference"]


def test_a_link_is_known_however_it_is_written() -> None:
    def said(reference: Any) -> dict[str, Any]:
        return {"url": FLUTE_SUPPORTING_INFO, "valueReference": reference}

    study = {
        "extension": [
            said({"reference": f"{BASE}/Observation/1"}),
            said({"reference": "Observation/2/_history/3", "display": "PSA"}),
            said({"reference": "http://elsewhere.example/fhir/Observation/4"}),
            said({"identifier": {"value": "5"}}),
            said("nonsense"),
            OTHER,
            "nonsense",
        ]
    }
    assert links_of(study, BASE) == {"Observation/1": None, "Observation/2": "PSA"}
    left = without_links(study, {"Observation/1", "Observation/2"}, BASE)
    assert left["extension"] == study["extension"][2:]


def test_nonsense_has_no_links() -> None:
    for extension in ("nonsense", {"url": 1}, [None], 7):
        study = {"extension": extension}
        assert links_of(study, BASE) == {}
        assert without_links(study, {"Observation/1"}, BASE) == study


@given(st.dictionaries(REFERENCES, st.text(max_size=3) | st.none()), st.sets(REFERENCES))
def test_what_is_added_is_there_and_what_is_taken_is_gone(
    links: dict[str, str | None], gone: set[str]
) -> None:
    study = {"status": "available", "extension": [OTHER]}
    linked = with_links(study, [link_element(*one) for one in links.items()])
    assert links_of(linked, BASE) == links
    left = without_links(linked, gone, BASE)
    assert links_of(left, BASE) == {one: words for one, words in links.items() if one not in gone}
    assert without_links(linked, links, BASE) == study
    assert with_links(without_links({}, gone, BASE), []) == {}
