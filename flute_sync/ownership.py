"""What of a resource is ours, so that nothing another system put on it is ever lost.

The archive is the authority for what flute-sync states, so our values win. Everything else on
the resource stays. The hard question is a value that flute-sync states no more: it goes only if
flute-sync wrote it. `digest` remembers that: short hashes of every value, list member and series
written. It is kept in the ledger, and a later merge asks it:

==================================  ===========================  ===============================
on the server                       in our new version           result
==================================  ===========================  ===============================
a value, a list member              there too                    ours; foreign sub-elements stay
                                                                 unless the whole was ours as is
a value, a list member              absent, digest knows it      removed
a value, a list member              absent, digest knows it not  kept: it is foreign
a series                            absent, digest knows it      removed
a series                            absent, no digest at all     removed where ``meta.source`` is
                                                                 ours (the ledger was lost), else
                                                                 kept
an instance                         absent, its series lists     removed
                                    just what we wrote
an instance                         absent, others added some    kept
==================================  ===========================  ===============================

Lists are sets to us: members are matched by what they identify, not by position.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from flute_sync.bundle import Resource
from flute_sync.terminology import DICOM_UID, OID, URI

_HASH_BYTES: Final = 5  # one wrong answer in 10^12 questions
_APART: Final = frozenset({"meta", "series"})
_SERVERS_OWN: Final = frozenset({"versionId", "lastUpdated"})
_NOBODYS: Final = frozenset({"resourceType", "id", "meta", "text"})
_UID_SYSTEMS: Final = (DICOM_UID, URI, None)


def study_uid(identifier: Mapping[str, Any]) -> str | None:
    """Return the Study Instance UID that an Identifier states, in any of the forms in use.

    Forms: ``urn:dicom:uid`` or ``urn:ietf:rfc:3986`` with ``urn:oid:UID``, the same with the
    plain UID, and either without a system.
    """
    value, system = identifier.get("value"), identifier.get("system")
    if not isinstance(value, str) or system not in _UID_SYSTEMS:
        return None
    return value.removeprefix(OID)


def bears_uid(resource: Mapping[str, Any], study_instance_uid: str) -> bool:
    """Tell whether an ImagingStudy is of this study."""
    return any(study_uid(found) == study_instance_uid for found in _dicts(resource, "identifier"))


def bears(resource: Mapping[str, Any], system: str, value: str) -> bool:
    """Tell whether a resource has exactly this identifier."""
    return any(
        found.get("system") == system and found.get("value") == value
        for found in _dicts(resource, "identifier")
    )


def _dicts(resource: Mapping[str, Any], element: str) -> list[Resource]:
    return [member for member in _list(resource, element) if isinstance(member, dict)]


def digest(ours: Mapping[str, Any]) -> str:
    """Return what `merge` must know later about a resource that we wrote, as short text."""
    hashes = {_hash(path, value) for path, value in _values(ours)}
    return b64encode(b"".join(sorted(hashes))).decode("ascii")


def _values(ours: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in ours.items():
        if name == "meta":
            yield from ((f"meta.{inner}", one) for inner, one in _values(value))
        elif name == "series":
            yield from (("series.uid", series.get("uid")) for series in value)
            yield from (("series.instances", _instance_uids(series)) for series in value)
            yield from (("series", series) for series in value)
        elif isinstance(value, list):
            yield from ((name, member) for member in value)
        else:
            yield name, value


def _hash(path: str, value: Any) -> bytes:
    return blake2b(_dump([path, value]), digest_size=_HASH_BYTES).digest()


@dataclass(frozen=True, slots=True)
class _Written:
    """What we wrote last time, as far as the digest tells; None: nothing is known."""

    hashes: frozenset[bytes] | None

    def has(self, path: str, value: Any) -> bool:
        return self.hashes is not None and _hash(path, value) in self.hashes


def _written(text: str | None) -> _Written:
    if text is None:
        return _Written(None)
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return _Written(None)
    parts = range(0, len(data), _HASH_BYTES)
    return _Written(frozenset(data[at : at + _HASH_BYTES] for at in parts))


def merge(
    current: Mapping[str, Any], ours: Mapping[str, Any], last_digest: str | None = None
) -> Resource:
    """Return the resource to write: ours, with everything foreign on the current one kept.

    Parameters
    ----------
    current
        As the server holds it now, whoever wrote it.
    ours
        As the mapping makes it now.
    last_digest
        `digest` of what we wrote last; None where that is not known.
    """
    written = _written(last_digest)
    merged = _object("", current, ours, written)
    if "id" in current:
        merged["id"] = current["id"]
    there, here = _meta(current), _meta(ours)
    meta = _object("meta.", there, here, written)
    if _source(there) is not None and _source(there) == _source(meta):
        meta["source"] = there["source"]
    if meta:
        merged["meta"] = meta
    mine = written.hashes is None and _source(here) is not None and _source(here) == _source(there)
    series = _series(_dicts(current, "series"), _dicts(ours, "series"), written, mine)
    if series:
        merged["series"] = series
    return merged


def _meta(resource: Mapping[str, Any]) -> Resource:
    meta = resource.get("meta")
    if not isinstance(meta, dict):
        return {}
    return {name: value for name, value in meta.items() if name not in _SERVERS_OWN}


def _list(resource: Mapping[str, Any], name: str) -> list[Any]:
    members = resource.get(name)
    return members if isinstance(members, list) else []


def _source(meta: Mapping[str, Any]) -> str | None:
    # HAPI appends "#" and the id of the request that wrote the resource.
    source = meta.get("source")
    return source.partition("#")[0] if isinstance(source, str) else None


def _object(
    prefix: str, current: Mapping[str, Any], ours: Mapping[str, Any], written: _Written
) -> Resource:
    merged: Resource = {}
    for name, there in current.items():
        if name in _APART and not prefix:
            continue
        here = ours.get(name)
        if isinstance(there, list) and (here is None or isinstance(here, list)):
            value: Any = _members(prefix + name, there, here or [], written)
        elif here is None:
            value = None if written.has(prefix + name, there) else there
        else:
            value = _one(prefix + name, there, here, written)
        if value not in (None, []):
            merged[name] = value
    new = {name: value for name, value in ours.items() if name not in current}
    if not prefix:
        new = {name: value for name, value in new.items() if name not in _APART}
    return merged | new


def _one(path: str, there: Any, here: Any, written: _Written) -> Any:
    same_thing = _key(path, there) == _key(path, here)
    if not same_thing or not isinstance(there, dict) or written.has(path, there):
        return here
    return _overlay(there, here)


def _overlay(there: Mapping[str, Any], here: Mapping[str, Any]) -> Resource:
    return {**there, **here}


def _members(path: str, there: list[Any], here: list[Any], written: _Written) -> list[Any]:
    return _matched(
        there,
        here,
        key=lambda member: _key(path, member),
        both=lambda old, new: _one(path, old, new, written),
        gone=lambda old: written.has(path, old),
    )


def _matched(
    there: list[Any],
    here: list[Any],
    *,
    key: Callable[[Any], bytes],
    both: Callable[[Any, Any], Any],
    gone: Callable[[Any], bool],
) -> list[Any]:
    waiting = {key(member): member for member in here}
    foreign = False
    merged, done = [], set()
    for old in there:
        identity = key(old)
        if identity in waiting:
            if identity not in done:
                merged.append(both(old, waiting[identity]))
            done.add(identity)
        elif not gone(old):
            foreign = True
            merged.append(old)
    new = [member for identity, member in waiting.items() if identity not in done]
    if foreign:
        return merged + new
    by_key = {key(member): member for member in merged}
    return [by_key.get(identity, member) for identity, member in waiting.items()]


def _series(there: list[Any], here: list[Any], written: _Written, mine: bool) -> list[Any]:
    return _matched(
        there,
        here,
        key=_uid,
        both=lambda old, new: _one_series(old, new, written),
        gone=lambda old: mine or written.has("series.uid", old.get("uid")),
    )


def _one_series(there: Resource, here: Resource, written: _Written) -> Resource:
    if written.has("series", there):
        return here
    merged = _overlay(there, here)
    ours_alone = written.has("series.instances", _instance_uids(there))
    if "instance" in here:
        merged["instance"] = _matched(
            _dicts(there, "instance"),
            here["instance"],
            key=_uid,
            both=_overlay,
            gone=lambda _old: ours_alone,
        )
    return merged


def _instance_uids(series: Mapping[str, Any]) -> list[str]:
    """Name a series and its instances, in one order."""
    listed = sorted(str(member.get("uid")) for member in _dicts(series, "instance"))
    return [str(series.get("uid")), *listed]


def _uid(member: Any) -> bytes:
    return _dump(member.get("uid") if isinstance(member, dict) else member)


def _key(path: str, member: Any) -> bytes:
    """Return what a value identifies: two with one key are the same thing said twice."""
    return _dump(_identifying(path, member) if isinstance(member, dict) else member)


def _identifying(path: str, member: Mapping[str, Any]) -> Any:
    if path == "identifier":
        uid = study_uid(member) if member.get("system") is not None else None
        return ["uid", uid] if uid else [member.get("system"), member.get("value")]
    if path == "modality":  # some write the system as "DCM"
        return member.get("code")
    if "url" in member:  # an Extension
        said = next((value for name, value in member.items() if name.startswith("value")), None)
        return [member["url"], _identifying("", said) if isinstance(said, dict) else said]
    if "reference" in member:
        return member["reference"]
    if isinstance(member.get("identifier"), dict):  # a logical Reference
        return _identifying("identifier", member["identifier"])
    if isinstance(member.get("coding"), list):
        return [_identifying("", coding) for coding in _dicts(member, "coding")]
    if "code" in member:
        return [member.get("system"), member["code"]]
    return member


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def foreign(current: Mapping[str, Any], last_digest: str) -> frozenset[str]:
    """Name the elements of a resource that hold something which we did not write.

    What a server adds by itself, in ``meta`` and as narrative, does not count.
    """
    written = _written(last_digest)
    left = merge(current, {}, last_digest).keys() - _NOBODYS
    whole = all(written.has("series", series) for series in _dicts(current, "series"))
    return frozenset(left if whole else left | {"series"})


def stated_by(current: Mapping[str, Any], sources: Collection[str]) -> bool:
    """Tell whether ``meta.source`` is one of these."""
    return _source(_meta(current)) in sources


def knows(current: Mapping[str, Any], last_digest: str) -> bool:
    """Tell whether a resource has an identifier just as we wrote it."""
    written = _written(last_digest)
    stated = [one for one in _dicts(current, "identifier") if one.get("system") is not None]
    return any(written.has("identifier", one) for one in stated)


def withdrawn_from(current: Mapping[str, Any], endpoints: Collection[str], status: str) -> Resource:
    """Return a resource of a study that these Endpoints give no more; what it told stays."""
    left = _without(current, endpoints) | {"status": status}
    if "series" in left:
        left["series"] = [_without(series, endpoints) for series in _dicts(left, "series")]
    return left


def _without(element: Mapping[str, Any], endpoints: Collection[str]) -> Resource:
    kept = [one for one in _dicts(element, "endpoint") if one.get("reference") not in endpoints]
    rest = {name: value for name, value in element.items() if name != "endpoint"}
    return rest | {"endpoint": kept} if kept else rest


def same(current: Mapping[str, Any], merged: Mapping[str, Any]) -> bool:
    """Tell whether writing ``merged`` over ``current`` would say nothing new.

    The order of lists, the narrative, and what the server itself keeps in ``meta`` do not count.
    """
    return _equal(_comparable(current), _comparable(merged))


def _comparable(resource: Mapping[str, Any]) -> Resource:
    meta = _meta(resource)
    if "source" in meta:
        meta["source"] = _source(meta)
    return {name: value for name, value in resource.items() if name != "text"} | {"meta": meta}


def _equal(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return all(_equal(one.get(name) or None, other.get(name) or None) for name in names)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(sorted(one, key=_sorting), sorted(other, key=_sorting), strict=True)
        return all(_equal(first, second) for first, second in pairs)
    return False


def _sorting(member: Any) -> bytes:
    if isinstance(member, dict) and "uid" in member:
        return _uid(member)
    return _dump(member)
