"""The wanted elements of a header as text, whether they came as bytes or as JSON.

What turns them into `study.Header` asks here by tag. A value that cannot be used is absent, and a
remark says which tag it was; the value itself is never part of a remark or an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid, HeaderUidMissing
from flute_sync.sources.header_tags import tag_text
from flute_sync.study import Remark
from flute_sync.valuerep import (
    ILLEGAL,
    LEADING_ZERO,
    Unusable,
    clean_identifier,
    clean_text,
    uid_problem,
)

_T = TypeVar("_T")

CHARACTER_SET_UNKNOWN: Final = "character-set-unknown"
CODE_INCOMPLETE: Final = "code-incomplete"
SEVERAL_VALUES: Final = "several-values"
TEXT_UNDECODABLE: Final = "text-undecodable"
UID_LEADING_ZERO: Final = "uid-leading-zero"
VALUE_TOO_LONG: Final = "value-too-long"
VALUE_UNUSABLE: Final = "value-unusable"
WRONG_TYPE: Final = "wrong-type"


@dataclass(slots=True)
class Elements:
    """The elements of a data set or of an item: values by tag, and items by tag.

    ``spoilt`` are the tags where something is stated that could not even be made text, ``empty``
    those that are there without a value. ``remarks`` is one set for a data set and all items in it.
    """

    values: dict[int, tuple[str, ...]] = field(default_factory=dict)
    items: dict[int, tuple["Elements", ...]] = field(default_factory=dict)
    spoilt: set[int] = field(default_factory=set)
    empty: set[int] = field(default_factory=set)
    remarks: set[Remark] = field(default_factory=set)

    def spoil(self, tag: int, code: str) -> None:
        """Note that an element is there but cannot be used."""
        self.spoilt.add(tag)
        self.remark(tag, code)

    def remark(self, tag: int, code: str) -> None:
        """Note a doubt about an element."""
        self.remarks.add(Remark(code, tag_text(tag)))

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return all values of an element, in order; empty ones between others stay."""
        found = tuple(clean_text(value) or "" for value in self.values.get(tag, ()))
        return found if any(found) else ()

    def text(self, tag: int) -> str | None:
        """Return the value of an element that has one; None where it has several."""
        found = self.texts(tag)
        if len(found) > 1:
            self.remark(tag, SEVERAL_VALUES)
            return None
        return found[0] if found else None

    def description(self, tag: int) -> str | None:
        """Return a text for people; a backslash in it, though illegal, is only a character."""
        found = self.texts(tag)
        if len(found) > 1:
            self.remark(tag, SEVERAL_VALUES)
        return "\\".join(found) or None

    def parsed(self, tag: int, parse: Callable[[str], _T | None]) -> _T | None:
        """Return the value of an element as its parser reads it."""
        found = self.text(tag)
        if found is None:
            return None
        try:
            return parse(found)
        except Unusable:
            self.remark(tag, VALUE_UNUSABLE)
            return None

    def identifier(self, tag: int) -> str | None:
        """Return an identifier, to the letter.

        Raises
        ------
        Unusable
            When something is stated that cannot serve; a remark says so already. An issuer that
            cannot be read is not the same as none.
        """
        found = self.values.get(tag, ())
        try:
            if tag in self.spoilt:
                raise Unusable("spoilt")
            if len(found) > 1:
                raise Unusable("several values")
            return clean_identifier(found[0]) if found else None
        except Unusable:
            self.remark(tag, VALUE_UNUSABLE)
            raise

    def chosen(self, tag: int, *values: str) -> str | None:
        """Return the value of an element if it is one of those that are defined for it."""
        found = self.text(tag)
        if found is not None and found not in values:
            self.remark(tag, VALUE_UNUSABLE)
            return None
        return found

    def uid(self, tag: int) -> str:
        """Return a UID byte for byte, without its padding.

        Raises
        ------
        HeaderError
            When there is none, or one that no DICOMweb address can carry.
        """
        found = self.optional_uid(tag)
        if found is None:
            raise self.refusal(HeaderUidMissing, tag, "is absent or empty")
        return found

    def optional_uid(self, tag: int) -> str | None:
        """Return a UID, None where it is absent.

        Raises
        ------
        HeaderError
            When it is not one.
        """
        if tag in self.spoilt:
            raise self.refusal(HeaderUidInvalid, tag, "cannot be read")
        values = self.values.get(tag, ())
        if len(values) > 1:
            raise self.refusal(HeaderUidInvalid, tag, "has several values")
        uid = values[0].rstrip(" \0") if values else ""
        if not uid:
            return None
        problem = uid_problem(uid)
        if problem == ILLEGAL:
            raise self.refusal(HeaderUidInvalid, tag, "is not a UID")
        if problem == LEADING_ZERO:
            self.remark(tag, UID_LEADING_ZERO)
        return uid

    def refusal(self, error: type[HeaderError], tag: int, reason: str) -> HeaderError:
        """Make the error that refuses this header for one of its elements."""
        return error(reason, tag=tag_text(tag))
