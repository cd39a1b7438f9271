"""Bounds and local habits of reading headers."""

from datetime import date
from typing import Annotated

from pydantic import Field

from flute_sync.settings import Bytes, Settings


class HeaderSettings(Settings):
    """``[header]``: how much of a header is taken in, and what one means where it is silent."""

    max_header_bytes: Bytes = 8 * 1024 * 1024
    """Largest header, in values kept and in data inflated; one beyond it is refused."""

    max_elements: Annotated[int, Field(gt=0)] = 1_000_000
    """Most elements walked over until the header is known; one with more is refused."""

    max_depth: Annotated[int, Field(gt=0, le=256)] = 64
    """Most sequences within sequences; a header with more is refused."""

    cached_headers: Annotated[int, Field(gt=0)] = 4096
    """Distinct headers whose decoded form is kept in memory."""

    default_character_set: str = "ISO_IR 6"
    """What (0008,0005) says where it says nothing; several values are parted by a backslash."""

    placeholder_dates: tuple[date, ...] = (date(1900, 1, 1),)
    """Days that mean "not known", beside 00000000 and 00010101."""
