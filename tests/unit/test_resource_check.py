"""Nothing that is not an ImagingStudy passes."""

from copy import deepcopy

import pytest

from flute_sync.fhir_errors import MappingError
from flute_sync.imaging_study import ImagingStudySettings, map_study
from flute_sync.resource_check import check
from tests.studies import EU_STRICT, context, mpmri

VALID = map_study(mpmri(), context(), ImagingStudySettings()).resource
SECRET = "SECRET\x01"


def put(resource, path, value):
    *way, last = path
    for step in way:
        resource = resource[step]
    if value is None:
        del resource[last]
    else:
        resource[last] = value


@pytest.mark.parametrize(
    ("path", "value", "element"),
    [
        (("status",), "xx", "ImagingStudy.status"),
        (("subject",), None, "subject"),
        (("started",), "2023-03-01T09:15:30", "started"),
        (("started",), "2023-13-01", "started"),
        (("description",), "", "description"),
        (("description",), SECRET, "description"),
        (("description",), " padded", "description"),
        (("numberOfSeries",), -1, "numberOfSeries"),
        (("modality", 0, "system"), "http://example.org", "modality"),
        (("modality", 0, "system"), None, "modality"),
        (("modality", 0, "code"), "M  R", "modality"),
        (("identifier", 0, "value"), 7, "identifier"),
        (("procedureCode", 0, "coding"), [], "procedureCode"),
        (("unheard",), "of", "unheard"),
        (("series", 0, "uid"), None, "series.uid"),
        (("series", 0, "uid"), "1..2", "series.uid"),
        (("series", 0, "uid"), ".1", "series.uid"),
        (("series", 0, "uid"), "1.2\n3", "series.uid"),
        (("series", 0, "uid"), "1." * 33, "series.uid"),
        (("series", 0, "uid"), "1." * 32 + "1", "series.uid"),
        (("series", 1, "uid"), VALID["series"][0]["uid"], "series.uid"),
        (("series", 1, "number"), -1, "series.number"),
        (("series", 1, "number"), True, "series.number"),
        (("series", 1, "numberOfInstances"), 2**31, "series.numberOfInstances"),
        (("series", 1, "started"), "2023-03-01T09:15", "series.started"),
        (("series", 1, "description"), SECRET, "series.description"),
        (("series", 1, "modality"), None, "modality"),
        (("series", 1, "modality", "code"), "", "modality"),
        (("series", 1, "bodySite"), {}, "bodySite"),
        (("series", 1, "bodySite"), {"code": "1"}, "bodySite"),
        (("series", 1, "instance", 2, "uid"), "1.2.x", "instance.uid"),
        (("series", 1, "instance", 2, "uid"), 12, "instance.uid"),
        (("series", 1, "instance", 2, "uid"), "1.\ud800", "instance.uid"),
        (("series", 1, "instance", 2, "uid"), "\u0661.2", "instance.uid"),
        (("series", 1, "instance", 2, "uid"), None, "instance.uid"),
        (
            ("series", 1, "instance", 2, "uid"),
            VALID["series"][0]["instance"][0]["uid"],
            "instance.uid",
        ),
        (("series", 1, "instance", 2, "number"), -1, "instance.number"),
        (("series", 1, "instance", 2, "number"), 1.5, "instance.number"),
        (("series", 1, "instance", 2, "title"), SECRET, "instance.title"),
        (("series", 1, "instance", 2, "sopClass"), {"code": "urn:oid:1.2"}, "sopClass"),
        (
            ("series", 1, "instance", 2, "sopClass"),
            {"system": "urn:ietf:rfc:3986", "code": "1.2"},
            "sopClass",
        ),
        (
            ("series", 1, "instance", 2, "sopClass"),
            {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1..2"},
            "sopClass",
        ),
        (("series", 1, "instance", 2, "sopClass"), None, "sopClass"),
        (("series", 1, "instance", 2, "unheard"), 1, "instance"),
    ],
)
def test_a_fault_is_refused_by_the_name_of_its_element(path, value, element):
    resource = deepcopy(VALID)
    put(resource, path, value)
    with pytest.raises(MappingError) as caught:
        check(resource)
    assert element in caught.value.detail
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("settings", [ImagingStudySettings(), EU_STRICT])
def test_what_the_mapping_makes_passes(settings):
    check(map_study(mpmri(), context(), settings).resource)


def test_series_of_another_kind_are_not_taken_for_one_another():
    resource = deepcopy(VALID)
    put(resource, ("series", 3, "laterality"), {"unheard": "of"})
    with pytest.raises(MappingError, match="laterality"):
        check(resource)
