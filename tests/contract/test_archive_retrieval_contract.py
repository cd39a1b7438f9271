"""Retrieval that flute-sync relies on, from the sandbox and from Orthanc (PS3.18 10.4)."""

import io

import pytest
from PIL import Image
from pydicom import dcmread

from tests.contract.dicomweb import split_multipart, value, values


def test_metadata_at_three_levels(web, mpmri):
    one = mpmri.datasets[0]
    series = f"{mpmri.path}/series/{one.SeriesInstanceUID}"
    in_series = {
        d.SOPInstanceUID for d in mpmri.datasets if d.SeriesInstanceUID == one.SeriesInstanceUID
    }
    for path, expected in (
        (mpmri.path, mpmri.sop_uids),
        (series, in_series),
        (mpmri.instance_path(0), {one.SOPInstanceUID}),
    ):
        response = web.get(f"{path}/metadata", headers={"Accept": "application/dicom+json"})
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/dicom+json")
        assert {value(header, "00080018") for header in response.json()} == expected


def test_metadata_says_what_the_object_says(web, mpmri):
    (header,) = web.get(f"{mpmri.instance_path(0)}/metadata").json()
    one = mpmri.datasets[0]
    assert value(header, "00080016") == one.SOPClassUID
    assert values(header, "00080008") == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert value(header, "00100010") == {"Alphabetic": "Esempio^Primo"}
    assert value(header, "00100021") == "SANDBOX"
    assert value(header, "00080201") == "+0100"
    assert value(header, "00200011") == 1
    assert value(header, "00180015") == "PROSTATE"
    assert value(value(header, "00082218"), "00080100") == "41216001"
    assert value(value(header, "00081032"), "00080104") == "MR Prostate"
    assert value(value(header, "00080051"), "00400032") == "1.3.6.1.4.1.99999.1"
    assert value(header, "00180050") == 3
    assert not [tag for tag in header if tag.startswith("0002")]
    assert "InlineBinary" not in header.get("7FE00010", {})


def test_metadata_carries_b_values(web, mpmri):
    headers = web.get(f"{mpmri.path}/metadata").json()
    assert {value(one, "00189087") for one in headers if "00189087" in one} == {50, 800}


@pytest.mark.parametrize("tail", ["", "/metadata", "/rendered"])
def test_an_absent_study_is_404(web, tail):
    assert web.get(f"/studies/1.2.3.4{tail}").status_code == 404


def test_objects_come_back_as_they_were_sent(web, mpmri):
    for path, expected in (
        (mpmri.path, len(mpmri.parts)),
        (f"{mpmri.path}/series/{mpmri.datasets[0].SeriesInstanceUID}", 2),
        (mpmri.instance_path(0), 1),
    ):
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        response = web.get(path, headers={"Accept": accept})
        assert response.status_code == 200
        parts = [dcmread(io.BytesIO(part)) for part in split_multipart(response)]
        assert len(parts) == expected
        sent = {one.SOPInstanceUID: one for one in mpmri.datasets}
        for part in parts:
            assert part.PixelData == sent[part.SOPInstanceUID].PixelData


def test_a_frame_is_its_pixels(web, mpmri):
    response = web.get(f"{mpmri.instance_path(0)}/frames/1")
    assert response.status_code == 200
    assert list(split_multipart(response)) == [mpmri.datasets[0].PixelData]


@pytest.mark.parametrize(("accept", "form"), [("image/jpeg", "JPEG"), ("image/png", "PNG")])
def test_pictures(web, mpmri, accept, form):
    series = f"{mpmri.path}/series/{mpmri.datasets[0].SeriesInstanceUID}"
    for path in (mpmri.path, series, mpmri.instance_path(0)):
        response = web.get(f"{path}/rendered", headers={"Accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == accept
        picture = Image.open(io.BytesIO(response.content))
        assert picture.format == form
        assert picture.size == (24, 24)
        shades = picture.convert("L").tobytes()
        assert min(shades) < 30
        assert max(shades) > 100
