"""What an ImagingStudy tells of retrieving its images: UIDs, counts and addresses, nothing else.

Resources come from others: what is not as the standard says is refused, never guessed, since UIDs
become addresses and names of files.

References
----------
FHIR R4 imagingstudy.html, endpoint.html; PS3.18 10.4 (2026b)
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from flute_sync.fetch_errors import StudyNotRetrievable
from flute_sync.fhir_elements import local_reference, members, own_reference, study_uid
from flute_sync.terminology import OID
from flute_sync.valuerep import ILLEGAL, uid_problem

WADO_RS: Final = "dicom-wado-rs"
WITHOUT_PIXELS: Final = (
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports, key objects
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, registrations, segmentations, surfaces
)
"""How the UIDs of SOP classes begin that are no images."""
_MODALITY: Final = re.compile(r"[A-Z0-9]{1,16}")
_WITHDRAWN: Final = frozenset({"cancelled", "entered-in-error"})
_OFF: Final = frozenset({"suspended", "error", "off", "entered-in-error"})
_LARGEST: Final = 2**31 - 1
_PORTS: Final = {"http": 80, "https": 443}

Resource = Mapping[str, Any]
FindEndpoints = Callable[[Sequence[object]], Sequence[Resource]]
"""Reads the Endpoints that References lead to, as far as they can be read."""


@dataclass(frozen=True, slots=True)
class WantedInstance:
    """One SOP instance: its UID, its number in the series, and its SOP class."""

    uid: str
    number: int | None = None
    sop_class_uid: str | None = None


@dataclass(frozen=True, slots=True)
class WantedSeries:
    """One series, and where it is.

    Parameters
    ----------
    uid
        None: what the study holds is not told by series.
    addresses
        DICOMweb service bases, the preferred one first.
    instances
        Those that are wanted; none where only their ``count`` is told.
    count
        How many the series has.
    """

    uid: str | None
    addresses: tuple[str, ...]
    number: int | None = None
    modality: str | None = None
    count: int | None = None
    instances: tuple[WantedInstance, ...] = ()

    @property
    def expected(self) -> int | None:
        """How many instances are to come, None where nothing says it."""
        return len(self.instances) or self.count


@dataclass(frozen=True, slots=True)
class WantedStudy:
    """One study to be fetched.

    Parameters
    ----------
    reference
        ``ImagingStudy/id``, None where a manifest does not tell.
    subject
        Whose images they are, in words that are the same for all studies of a patient.
    """

    uid: str
    reference: str | None
    subject: str | None
    series: tuple[WantedSeries, ...]


def expected(study: WantedStudy) -> int:
    """Return how many instances of a study are to come, as far as that is said; at least one."""
    return max(1, sum(one.expected or 0 for one in study.series))


def wanted_study(resource: Resource, endpoints: FindEndpoints, base_url: str = "") -> WantedStudy:
    """Read an ImagingStudy.

    Parameters
    ----------
    base_url
        Of the FHIR server: a patient that is named by its address is the one named without it.

    Raises
    ------
    StudyNotRetrievable
        A UID is absent or illegal, or no Endpoint tells where the images are.
    """
    reference = own_reference(resource)
    uid = legal_uid(study_uid(resource), reference)
    if resource.get("status") in _WITHDRAWN:
        raise _refusal(f"its status is {resource['status']}", reference, uid)
    of_study = _addresses(resource, endpoints)
    listed = members(resource.get("series"))
    series = _each_once(_series(one, of_study, endpoints, reference) for one in listed)
    if _has_more(resource, series):
        series = (_all_of(resource, series, of_study),)
    if any(not one.addresses and one.expected != 0 for one in series):
        raise _refusal("no active Endpoint for WADO-RS", reference, uid)
    series = tuple(one for one in series if one.expected != 0)
    return WantedStudy(uid, reference, _subject(resource, base_url), series)


def _has_more(resource: Resource, listed: Sequence[WantedSeries]) -> bool:
    """Tell whether a study has more than is listed: its numbers may be larger than its lists."""
    stated, series = (
        _count(resource.get(name)) for name in ("numberOfInstances", "numberOfSeries")
    )
    if not listed:
        return stated != 0
    is_larger = series is not None and series > len({one.uid for one in listed})
    return is_larger or (stated or 0) > sum(one.expected or 0 for one in listed)


def _each_once(listed: Iterable[WantedSeries]) -> tuple[WantedSeries, ...]:
    """Join the entries of one series: its files are to be written, and counted, once."""
    found: dict[str | None, WantedSeries] = {}
    for one in listed:
        known = found.setdefault(one.uid, one)
        if known is not one:
            found[one.uid] = _joined(known, one)
    return tuple(found.values())


def _joined(one: WantedSeries, other: WantedSeries) -> WantedSeries:
    counts = [each.expected for each in (one, other) if each.expected is not None]
    both = {each.uid: each for each in (*other.instances, *one.instances)}
    is_listed = bool(one.instances and other.instances)
    return replace(
        one,
        addresses=tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        count=len(both) if is_listed else max(counts, default=None),
        instances=tuple(both.values()) if is_listed else (),
    )


def _all_of(
    resource: Resource, listed: Sequence[WantedSeries], of_study: tuple[str, ...]
) -> WantedSeries:
    stated = _count(resource.get("numberOfInstances"))
    known = sum(one.expected or 0 for one in listed)
    return WantedSeries(
        None,
        tuple(dict.fromkeys((*of_study, *(each for one in listed for each in one.addresses)))),
        count=None if stated is None else max(stated, known),
    )


def _series(
    element: Resource, of_study: tuple[str, ...], endpoints: FindEndpoints, reference: str | None
) -> WantedSeries:
    listed: dict[str, WantedInstance] = {}
    for one in members(element.get("instance")):
        uid = legal_uid(one.get("uid"), reference)
        listed.setdefault(
            uid, WantedInstance(uid, _count(one.get("number")), _sop_class(one.get("sopClass")))
        )
    count = _count(element.get("numberOfInstances"))
    modality = element.get("modality")
    code = modality.get("code") if isinstance(modality, dict) else None
    # A list that is shorter than the stated count is no list to go by: the count is.
    whole = tuple(listed.values()) if count is None or len(listed) >= count else ()
    return WantedSeries(
        uid=legal_uid(element.get("uid"), reference),
        addresses=_addresses(element, endpoints) or of_study,
        number=_count(element.get("number")),
        modality=code if isinstance(code, str) and _MODALITY.fullmatch(code) else None,
        count=max(count or 0, len(whole)) if whole else count,
        instances=whole,
    )


def legal_uid(value: object, reference: str | None = None) -> str:
    """Return a UID that may become part of an address or of a file's name (PS3.5 9.1).

    Raises
    ------
    StudyNotRetrievable
        It is not one.
    """
    uid = value.removeprefix(OID) if isinstance(value, str) else ""
    if uid_problem(uid) == ILLEGAL:
        raise _refusal("a UID is absent or illegal", reference)
    return uid


def _refusal(why: str, reference: str | None, uid: str | None = None) -> StudyNotRetrievable:
    return StudyNotRetrievable(f"{reference or 'study'}: {why}", study_instance_uid=uid)


def _count(value: object) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    return int(value) if known else None  # type: ignore[call-overload]


def _sop_class(value: object) -> str | None:
    code = value.get("code") if isinstance(value, dict) else None
    uid = code.removeprefix(OID) if isinstance(code, str) else None
    return uid if uid and uid_problem(uid) is None else None


def _subject(resource: Resource, base_url: str) -> str | None:
    subject = resource.get("subject")
    if not isinstance(subject, dict):
        return None
    stated = subject.get("reference")
    if isinstance(stated, str) and not stated.startswith("#"):  # "#p" is somebody else elsewhere
        return local_reference(subject, base_url) or stated.partition("/_history/")[0]
    identifier = subject.get("identifier")
    if not isinstance(identifier, dict) or not isinstance(identifier.get("value"), str):
        return None
    return f"{identifier.get('system', '')}|{identifier['value']}"


# -- addresses -------------------------------------------------------------------------------


def _addresses(element: Resource, endpoints: FindEndpoints) -> tuple[str, ...]:
    references = list(members(element.get("endpoint")))
    return tuple(dict.fromkeys(_served(endpoints(references)))) if references else ()


def _served(found: Iterable[Resource]) -> Iterator[str]:
    """Yield service bases; some write ``/studies`` behind them, where R4 says not to."""
    for one in found:
        kind = one.get("connectionType")
        code = kind.get("code") if isinstance(kind, dict) else None
        address = one.get("address")
        if code == WADO_RS and one.get("status") not in _OFF and isinstance(address, str):
            clean = service_base(address)
            if clean is not None:
                yield clean.removesuffix("/studies")


def service_base(address: str) -> str | None:
    """Write a DICOMweb service base in the one way it is compared, None where it is not one.

    Scheme and host are in small letters, the port is left out where it is the scheme's own, and
    there is neither a slash at the end, nor credentials, a query, a fragment or ``..``.
    """
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.query:
        return None
    path = parts.path.rstrip("/")
    if parts.fragment or not re.fullmatch(r"[A-Za-z0-9/._~!$&'()*+,;=:@%-]*", path, re.ASCII):
        return None
    if {".", ".."} & set(re.sub("%2e", ".", path, flags=re.IGNORECASE).split("/")):
        return None
    name = f"[{host}]" if ":" in host else host
    place = name if port in (None, _PORTS[parts.scheme]) else f"{name}:{port}"
    return urlunsplit((parts.scheme, place, path, "", ""))


def path_of(study_uid: str, series_uid: str | None = None, instance_uid: str | None = None) -> str:
    """Return the path of a WADO-RS resource below the service base (PS3.18 10.4.1)."""
    path = f"/studies/{study_uid}"
    if series_uid is not None:
        path += f"/series/{series_uid}"
    return f"{path}/instances/{instance_uid}" if instance_uid is not None else path
