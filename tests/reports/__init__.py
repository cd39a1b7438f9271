"""A TID 1500 report as WADO-RS metadata returns it, and reports made of content items.

``report.json`` was written by highdicom 0.28.2 (Comprehensive 3D SR: the prostate with its volume,
a lesion with its volume and assessment, and the assessment of the study) and read back.
"""

from pathlib import Path
from typing import Any

import orjson

STUDY = "1.2.3"
PROSTATE, LESION = ("41216001", "SCT"), ("52988006", "SCT")
VOLUME, FINDING, SITE = ("118565006", "SCT"), ("121071", "DCM"), ("363698007", "SCT")
GROUP, OVERALL, LOCALIZED = ("125007", "DCM"), ("130554", "DCM"), ("130555", "DCM")
ASSESSMENT = ("121144", "DCM")
Json = dict[str, Any]
Pair = tuple[str, str]


def by_highdicom() -> Json:
    """Return the metadata of the report that highdicom wrote."""
    found: Json = orjson.loads(Path(__file__).with_name("report.json").read_bytes())
    return found


def sequence(*items: Json) -> Json:
    return {"vr": "SQ", "Value": list(items)}


def text(vr: str, *values: str) -> Json:
    return {"vr": vr, "Value": list(values)}


def concept(value: str, scheme: str) -> Json:
    return sequence({"00080100": text("SH", value), "00080102": text("SH", scheme)})


def item(value_type: str, name: Pair, *children: Json) -> Json:
    found = {"0040A010": text("CS", "CONTAINS"), "0040A040": text("CS", value_type)}
    found |= {"0040A043": concept(*name)}
    return found | ({"0040A730": sequence(*children)} if children else {})


def container(name: Pair, *children: Json) -> Json:
    return item("CONTAINER", name, *children)


def coded(name: Pair, code: Pair, *children: Json) -> Json:
    return item("CODE", name, *children) | {"0040A168": concept(*code)}


def number(name: Pair, value: object, unit: str, *children: Json) -> Json:
    measured = {"0040A30A": {"vr": "DS", "Value": [value]}, "004008EA": concept(unit, "UCUM")}
    return item("NUM", name, *children) | {"0040A300": sequence(measured)}


def report(
    *children: Json,
    uid: str = "1.2.3.9.1",
    study: str = STUDY,
    evidence: tuple[str, ...] = (STUDY,),
    replaces: tuple[str, ...] = (),
    completion: str = "COMPLETE",
    verification: str = "VERIFIED",
    preliminary: str | None = None,
) -> Json:
    """Make a report of content items."""
    found = container(("126000", "DCM"), *children)
    del found["0040A010"]
    replaced = [{"00081199": sequence({"00081155": text("UI", one)})} for one in replaces]
    predecessors = {"0020000D": text("UI", study), "00081115": sequence(*replaced)}
    return found | {
        "00080018": text("UI", uid),
        "0020000D": text("UI", study),
        "0040A491": text("CS", completion),
        "0040A493": text("CS", verification),
        "0040A496": text("CS", *([preliminary] if preliminary else [])),
        "0040A375": sequence(*({"0020000D": text("UI", one)} for one in evidence)),
        "0040A360": sequence(*([predecessors] if replaces else [])),
    }


def group(*children: Json) -> Json:
    """Make a measurement group (TID 1501)."""
    return container(("126010", "DCM"), container(GROUP, *children))


def score(rid: str) -> Json:
    """Make an assessment (CID 6325, CID 6328)."""
    return coded(ASSESSMENT, (rid, "RADLEX"))
