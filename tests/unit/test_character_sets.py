"""The tables of character sets say what pydicom's say."""

from pydicom import charset

from flute_sync.sources.character_sets import CODEC_OF_ESCAPE, CODEC_OF_TERM, STAND_ALONE

ASCII_TERMS = {"", "ISO_IR 6", "ISO 2022 IR 6"}


def test_terms_are_those_of_pydicom() -> None:
    """Only ISO-IR 6 differs: pydicom lets bytes above 7F pass as Latin-1."""
    theirs = {t: c for t, c in charset.python_encoding.items() if t not in ASCII_TERMS}
    ours = {t: c for t, c in CODEC_OF_TERM.items() if t not in ASCII_TERMS}
    assert ours == theirs
    assert {CODEC_OF_TERM[term] for term in ASCII_TERMS - {""}} == {"ascii"}


def test_escape_sequences_are_those_of_pydicom() -> None:
    assert CODEC_OF_ESCAPE == charset.CODES_TO_ENCODINGS
    assert set(charset.STAND_ALONE_ENCODINGS) == STAND_ALONE
