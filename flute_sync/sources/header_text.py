"""Decoding text by Specific Character Set (0008,0005).

References
----------
PS3.3 C.12.1.1.2 and PS3.5 6.1 (2026b).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from flute_sync.sources.character_sets import CODEC_OF_ESCAPE, CODEC_OF_TERM, STAND_ALONE

_REPERTOIRE: Final = re.compile(r"ISO[ _-]?(2022[ _-]?)?IR[ _-]?(\d+)", re.ASCII | re.IGNORECASE)
_UTF_8_TERMS: Final = frozenset({"UTF8", "UTF-8"})
_READ_ESCAPES: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})  # Python's own, among the codecs
_FRAGMENT: Final = re.compile(rb"[^\x1b]+|\x1b[^\x1b]*")
_RESETS: Final = re.compile(rb"[\r\n\t\f\\]")
_RESETS_IN_NAMES: Final = re.compile(rb"[\r\n\t\f\\^=]")


class CharacterSet(NamedTuple):
    """Python codecs: the one in effect first, then those that escape sequences may call."""

    codecs: tuple[str, ...]

    def decode(self, raw: bytes, *, name: bool = False) -> tuple[str, bool]:
        """Decode a value.

        Parameters
        ----------
        name
            Whether it is a PN, where ``^`` and ``=`` also end a code extension.

        Returns
        -------
        tuple
            The text, and whether every byte of it had a meaning; where not, U+FFFD stands.
        """
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii"), True
        if b"\x1b" not in raw:
            return _strictly(raw, self.codecs[0])
        resets = _RESETS_IN_NAMES if name else _RESETS
        parts = [self._fragment(part, resets) for part in _FRAGMENT.findall(raw)]
        return "".join(text for text, _ in parts), all(whole for _, whole in parts)

    def _fragment(self, raw: bytes, resets: re.Pattern[bytes]) -> tuple[str, bool]:
        if not raw.startswith(b"\x1b"):
            return _strictly(raw, self.codecs[0])
        length = 4 if raw[:3] in (b"\x1b$(", b"\x1b$)") else 3
        codec = CODEC_OF_ESCAPE.get(raw[:length])
        if codec is None or (codec not in self.codecs and raw[:length] != b"\x1b(B"):
            return _strictly(raw[length:], self.codecs[0])[0], False
        if codec in _READ_ESCAPES:
            return _strictly(raw, codec)
        reset = resets.search(raw, length)
        end = reset.start() if reset else len(raw)
        extended, rest = _strictly(raw[length:end], codec), _strictly(raw[end:], self.codecs[0])
        return extended[0] + rest[0], extended[1] and rest[1]


@lru_cache(maxsize=256)
def character_set(terms: tuple[str, ...]) -> CharacterSet | None:
    """Return the character set that the terms of (0008,0005) name; None where one is unknown.

    Terms that are only written a little wrong (``ISO-IR 100``, ``UTF8``) are understood.
    """
    if terms and _standard(terms[0]) in STAND_ALONE:
        terms = terms[:1]
    codecs = tuple(_codec(term) for term in terms or ("",))
    return None if "" in codecs else CharacterSet(codecs)


def _standard(term: str) -> str:
    term = term.strip()
    if term.upper() in _UTF_8_TERMS:
        return "ISO_IR 192"
    match = _REPERTOIRE.fullmatch(term)
    if match is None:
        return term
    return f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"


def _codec(term: str) -> str:
    return CODEC_OF_TERM.get(_standard(term) or "ISO_IR 6", "")


def _strictly(raw: bytes, codec: str) -> tuple[str, bool]:
    try:
        return raw.decode(codec), True
    except UnicodeError:
        return raw.decode(codec, errors="replace"), False
