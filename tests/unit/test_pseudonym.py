"""Pseudonyms: the documented scheme to the bit, and the laws that make it safe."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.pseudonym import Kind, PseudonymKey, Pseudonyms, ShiftRule
from flute_sync.settings_errors import PseudonymKeyUnusable, SecretUnreadable
from flute_sync.transport.secret import read_pseudonym_key
from flute_sync.valuerep import Unusable

KEY = PseudonymKey(bytes(range(32)))
WORDS = PseudonymKey(b"correct horse battery staple, and more of it")

# Computed by `openssl dgst -sha256 -mac HMAC`: the shift by whole weeks within 364 days, and by
# days within 30.
VECTORS = [
    (KEY, "patient", "urn:oid:1.2.3", "PX100000", "MLTQ4EX3O2JACSHGN3GWNLDQ3OXI6H3M", -231, -23),
    (KEY, "patient", "urn:oid:1.2.3", "0042", "INBJBOK2FUH6KQBNHST7CJE2ABGXISKC", -322, -26),
    (KEY, "patient", "https://h.example/mrn", "Ä-7", "LYFHRPD7DBEGVVZLTWFCKHSNSXE2R73Z", -336, -4),
    (KEY, "accession", "urn:oid:1.2.3", "PX100000", "MS7F344RHD2277XBKLCQNQ52M4HJ7UX2", -217, -27),
    (KEY, "accession", "", "ACC 1", "STTIKZRTSVW4MYQNDE2LIKQGP2KKUDZJ", -252, -22),
    (WORDS, "patient", "urn:oid:1.2.3", "PX100000", "XMQ2477GLT6BHVZJB6DBAMGBFYTDE33V", -42, -8),
    (WORDS, "accession", "", "ACC 1", "H4WKMZIK27NSD43DDNZJYGD3U6VQEGA6", -266, -2),
]
systems = st.sampled_from(["", "urn:oid:1.2", "urn:oid:1.23", "urn:x:a"])
values = st.text("ab0 1|\u00e9", min_size=1, max_size=6).filter(lambda text: bool(text.strip(" ")))


@pytest.mark.parametrize(("key", "kind", "system", "value", "named", "weeks", "days"), VECTORS)
def test_the_scheme_is_as_documented(
    key: PseudonymKey, kind: str, system: str, value: str, named: str, weeks: int, days: int
) -> None:
    assert key.pseudonym(Kind(kind), system, value) == named
    assert ShiftRule(364).days(key, named) == weeks
    assert ShiftRule(30, whole_weeks=False).days(key, named) == days


def test_a_key_is_told_by_its_id_and_never_shows_itself() -> None:
    assert (KEY.id, WORDS.id) == ("2766e47dbebc426c", "4bed1e37b5f926fd")
    told = f"{WORDS!r} {Pseudonyms(WORDS, 'urn:x:p')!r}"
    assert "horse" not in told


@given(st.sampled_from(Kind), systems, values)
def test_a_pseudonym_has_160_bits_in_a_plain_alphabet(kind: Kind, system: str, value: str) -> None:
    assert re.fullmatch("[A-Z2-7]{32}", KEY.pseudonym(kind, system, value))


@given(
    st.tuples(st.sampled_from(Kind), systems, values),
    st.tuples(st.sampled_from(Kind), systems, values),
)
def test_only_the_same_identifier_has_the_same_pseudonym(
    one: tuple[Kind, str, str], other: tuple[Kind, str, str]
) -> None:
    same = (*one[:2], one[2].strip(" ")) == (*other[:2], other[2].strip(" "))
    assert (KEY.pseudonym(*one) == KEY.pseudonym(*other)) is same
    assert KEY.pseudonym(*one) != WORDS.pseudonym(*one)


def test_fields_cannot_flow_into_each_other() -> None:
    assert KEY.pseudonym(Kind.PATIENT, "urn:a", "bc") != KEY.pseudonym(Kind.PATIENT, "urn:ab", "c")


@pytest.mark.parametrize("padded", [" 0042", "0042  ", "0042\0", " 0042 \0"])
def test_pad_characters_do_not_count(padded: str) -> None:
    plain = KEY.pseudonym(Kind.PATIENT, "urn:a", "0042")
    assert KEY.pseudonym(Kind.PATIENT, "urn:a", padded) == plain


@pytest.mark.parametrize("other", ["42", "00 42", "0042a", "004 2"])
def test_all_else_counts(other: str) -> None:
    plain = KEY.pseudonym(Kind.PATIENT, "urn:a", "0042")
    assert KEY.pseudonym(Kind.PATIENT, "urn:a", other) != plain


@pytest.mark.parametrize("value", ["", "  ", "\0", "a\tb", "a\x07", "\ufffd"])
def test_what_is_no_identifier_has_no_pseudonym(value: str) -> None:
    with pytest.raises(Unusable):
        KEY.pseudonym(Kind.PATIENT, "urn:a", value)


@given(values, st.integers(7, 400), st.booleans())
def test_a_shift_goes_back_within_its_bounds_and_is_never_nothing(
    pseudonym: str, largest: int, weeks: bool
) -> None:
    days = ShiftRule(largest, weeks).days(KEY, pseudonym)
    assert -largest <= days < 0
    assert not weeks or days % 7 == 0
    assert ShiftRule(largest, weeks).days(KEY, pseudonym) == days


def test_every_shift_occurs() -> None:
    rule = ShiftRule(70)
    found = {rule.days(KEY, KEY.pseudonym(Kind.PATIENT, "", str(one))) for one in range(500)}
    assert found == set(range(-70, 0, 7))


@pytest.mark.parametrize("secret", [b"", bytes(range(31)), b"\0" * 64, b"abcabc" * 10])
def test_a_key_that_can_be_guessed_is_refused(secret: bytes) -> None:
    with pytest.raises(PseudonymKeyUnusable):
        PseudonymKey(secret)


def test_the_key_is_what_the_file_holds_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(WORDS.secret + b"\r\n")
    file.chmod(0o440)
    assert read_pseudonym_key(str(file)) == WORDS


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_key_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_bytes(WORDS.secret)
    file.chmod(mode)
    with pytest.raises(PseudonymKeyUnusable) as raised:
        read_pseudonym_key(str(file))
    assert "horse" not in raised.value.sentence


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable):
        read_pseudonym_key(str(tmp_path / "none"))
