"""What the body of a pushed notice says, in any of the shapes that archives push.

Pure: a body goes in, what it tells comes out. The shapes are told apart by their content, each
element of an array for itself, so that a batch may hold what it likes: ours, Orthanc's, Azure's
events (in the schema of Event Grid or as CloudEvents), Google's Pub/Sub messages.

References
----------
docs/webhook.md; CloudEvents 1.0.2; Azure Event Grid event schema, "Azure Health Data Services as
an Event Grid source"; Cloud Pub/Sub push, "Wrapped message"; Cloud Healthcare API,
DicomNotificationConfig.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from flute_sync.intake import Notice
from flute_sync.notice_errors import NoticeMalformed, NoticeNotJson, NoticeTooLarge
from flute_sync.study import StudyInstanceUID
from flute_sync.valuerep import ILLEGAL, uid_problem

Json = dict[str, Any]

_AZURE: Final = "Microsoft.HealthcareApis.DicomImage"
_AZURE_EVENTS: Final = frozenset(_AZURE + what for what in ("Created", "Updated", "Deleted"))
_VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"
_LONGEST_CODE: Final = 1024
_GOOGLE: Final = re.compile(
    r"projects/[^/]+/locations/[^/]+/datasets/[^/]+/([A-Za-z0-9]+Stores)/.+"
)
_GOOGLE_STUDY: Final = re.compile(r".+?/dicomStores/[^/]+/dicomWeb/studies/([^/]+)(?:/.*)?")


class Told(NamedTuple):
    """One study of which something is told; without ``archive`` it may be in any."""

    study_instance_uid: StudyInstanceUID
    notice: Notice = Notice.CHANGED
    archive: str | None = None


class Foreign(NamedTuple):
    """An event that is well-formed and about something else than a study."""


class Useless(NamedTuple):
    """Something of which no study can be learned, and why; never with its values."""

    reason: str


class Validation(NamedTuple):
    """Event Grid asks whether its events are wanted; the code is the answer."""

    code: str


Meaning = Told | Foreign | Useless | Validation


@dataclass(frozen=True, slots=True)
class Message:
    """What one body says: the latest of each study, and how many elements told of none."""

    told: tuple[Told, ...] = ()
    foreign: int = 0
    useless: int = 0
    validation: str | None = None


def understand(body: bytes, most: int) -> Message:
    """Read a body.

    Parameters
    ----------
    most
        How many elements it may have.

    Raises
    ------
    NoticeNotJson, NoticeMalformed, NoticeTooLarge
        When nothing of it can be used; it names the first element at fault and no value.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoticeNotJson from None
    meanings = [_meaning(element) for element in _elements(document, most)]
    told = {(one.study_instance_uid, one.archive): one for one in meanings if isinstance(one, Told)}
    message = Message(
        tuple(told.values()),
        sum(isinstance(one, Foreign) for one in meanings),
        sum(isinstance(one, Useless) for one in meanings),
        next((one.code for one in meanings if isinstance(one, Validation)), None),
    )
    if not (message.told or message.foreign or message.validation):
        raise NoticeMalformed(_first_fault(meanings))
    return message


def _first_fault(meanings: list[Meaning]) -> str:
    for number, one in enumerate(meanings, 1):
        if isinstance(one, Useless):
            return f"element {number}: {one.reason}"
    return "it is empty"


def _elements(document: Any, most: int) -> list[Any]:
    studies = document.get("studies") if isinstance(document, dict) else document
    if not isinstance(studies, list):
        return [document]
    if len(studies) > most:
        raise NoticeTooLarge(f"{len(studies)} elements")
    if not isinstance(document, dict):
        return studies
    common = {name: document[name] for name in ("archive", "notice") if name in document}
    return [
        {**common, **(one if isinstance(one, dict) else {"study_instance_uid": one})}
        for one in studies
    ]


def _meaning(element: Any) -> Meaning:
    if not isinstance(element, dict):
        return Useless("not an object")
    if "eventType" in element:
        return _azure(element, element["eventType"])
    if "specversion" in element or "specVersion" in element:  # Azure's documentation has both
        return _cloud_event(element)
    return _plain(element)


def _plain(element: Json) -> Meaning:
    if "message" in element:
        return _google(element["message"])
    if "ChangeType" in element:
        return _orthanc(element)
    return _ours(element)


def _ours(element: Json) -> Meaning:
    name = element.get("notice", Notice.CHANGED.value)
    if name not in (Notice.CHANGED.value, Notice.GONE.value):
        return Useless("notice is neither changed nor gone")
    uid = element.get("study_instance_uid", element.get("StudyInstanceUID"))
    return _told(uid, Notice(name), element.get("archive"))


def _orthanc(element: Json) -> Meaning:
    """Read a change in Orthanc's words, with the StudyInstanceUID that its feed lacks."""
    gone = element["ChangeType"] == "Deleted" and element.get("ResourceType") == "Study"
    notice = Notice.GONE if gone else Notice.CHANGED
    return _told(element.get("StudyInstanceUID"), notice, element.get("archive"))


def _cloud_event(element: Json) -> Meaning:
    kind, data = element.get("type"), element.get("data")
    if isinstance(kind, str) and kind.startswith("Microsoft."):
        return _azure(element, kind)
    if isinstance(data, dict):
        found = _plain(data)
        return Foreign() if isinstance(found, Useless) else found
    return Foreign()


def _azure(element: Json, kind: object) -> Meaning:
    """Read an event of Azure: one instance came, changed or went; the study may well stay."""
    data = element.get("data")
    data = data if isinstance(data, dict) else {}
    if kind == _VALIDATION:
        code = data.get("validationCode")
        if isinstance(code, str) and 0 < len(code) <= _LONGEST_CODE:
            return Validation(code)
        return Useless("the validation has no code")
    if not isinstance(kind, str):
        return Useless("the event has no type")
    return _told(data.get("imageStudyInstanceUid")) if kind in _AZURE_EVENTS else Foreign()


def _google(message: object) -> Meaning:
    """Read a Pub/Sub message: the name of the instance that was stored, or its attributes."""
    if not isinstance(message, dict):
        return Useless("message is not an object")
    attributes = message.get("attributes")
    if isinstance(attributes, dict) and "studyInstanceUID" in attributes:
        return _told(attributes["studyInstanceUID"])
    try:
        name = base64.b64decode(message.get("data", ""), validate=True).decode("ascii")
    except (binascii.Error, TypeError, ValueError):
        return Useless("message.data is not a name in base64")
    study = _GOOGLE_STUDY.fullmatch(name)
    if study is not None:
        return _told(study[1])
    return Foreign() if _GOOGLE.fullmatch(name) else Useless("message.data names no study")


def _told(uid: object, notice: Notice = Notice.CHANGED, archive: object = None) -> Meaning:
    if not isinstance(uid, str):
        return Useless("it names no study")
    uid = uid.strip(" \0")
    if uid_problem(uid) == ILLEGAL:
        return Useless("its StudyInstanceUID is not a UID")
    if not isinstance(archive, str | None):
        return Useless("archive is not a name")
    return Told(StudyInstanceUID(uid), notice, archive)
