"""Every transfer syntax and character set, and what writers make of them."""

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.charset import convert_encodings, encode_string

from flute_sync.dicom_errors import HeaderError, HeaderTruncated
from flute_sync.sources.header import HeaderReader, HeaderSettings
from flute_sync.sources.header_text import character_set
from flute_sync.study import Header
from tests.headers import element, example, part10

READER = HeaderReader()
EXPLICIT = part10(example())
EXPECTED = READER.read(EXPLICIT)
META_BYTES = 128 + 4
ENCAPSULATED = [
    uid.JPEGBaseline8Bit,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.RLELossless,
    uid.HTJ2K,
    uid.MPEG4HP41,
    "1.2.840.10008.1.2.8.1",
    "1.2.3.4.5",
]


def body(data: bytes) -> bytes:
    """Return the data set of a file."""
    group_length = int.from_bytes(data[140:144], "little")
    return data[144 + group_length :]


def with_transfer_syntax(data: bytes, transfer_syntax_uid: str) -> bytes:
    """Put the data set of a file behind another meta group."""
    value = transfer_syntax_uid.encode()
    meta = element(0x0002_0010, "UI", value + b"\0" * (len(value) % 2))
    return bytes(128) + b"DICM" + meta + body(data)


@pytest.mark.parametrize(
    "transfer_syntax_uid",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ],
)
def test_transfer_syntaxes(transfer_syntax_uid: uid.UID):
    assert READER.read(part10(example(), transfer_syntax_uid)) == EXPECTED


@pytest.mark.parametrize("transfer_syntax_uid", ENCAPSULATED)
def test_encapsulated_and_private_transfer_syntaxes(transfer_syntax_uid: str):
    assert READER.read(with_transfer_syntax(EXPLICIT, transfer_syntax_uid)) == EXPECTED


@pytest.mark.parametrize("declared", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
@pytest.mark.parametrize("written", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_declared_and_written_may_differ(declared: uid.UID, written: uid.UID):
    assert READER.read(with_transfer_syntax(part10(example(), written), declared)) == EXPECTED


@pytest.mark.parametrize(
    "written",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian],
)
def test_a_bare_data_set(written: uid.UID):
    bare = body(part10(example(), written))
    assert READER.read(bare) == EXPECTED
    assert READER.read(bare, written) == EXPECTED


def test_a_bare_deflated_data_set():
    bare = body(part10(example(), uid.DeflatedExplicitVRLittleEndian))
    assert READER.read(bare, uid.DeflatedExplicitVRLittleEndian) == EXPECTED


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**32 - 1])
def test_the_length_of_the_meta_group_is_not_believed(length: int):
    data = EXPLICIT[:140] + length.to_bytes(4, "little") + EXPLICIT[144:]
    assert READER.read(data) == EXPECTED


def test_meta_group_without_length_or_preamble():
    assert READER.read(EXPLICIT[META_BYTES:]) == EXPECTED
    assert READER.read(EXPLICIT[:META_BYTES] + EXPLICIT[144:]) == EXPECTED
    assert READER.read(EXPLICIT[144:]) == EXPECTED


def test_deflated_data_without_an_end():
    data = part10(example(), uid.DeflatedExplicitVRLittleEndian)
    start = len(data) - len(body(data))
    for size in range(0, len(data) - start, 7):
        with pytest.raises(HeaderTruncated):
            READER.read(data[: start + size])


def test_broken_deflated_data():
    data = part10(example(), uid.DeflatedExplicitVRLittleEndian)
    start = len(data) - len(body(data))
    with pytest.raises(HeaderError, match="deflated"):
        READER.read(data[:start] + b"\xff" * 500)


def test_deflated_data_with_something_behind():
    data = part10(example(), uid.DeflatedExplicitVRLittleEndian)
    assert READER.read(data + zlib.compress(b"x") * 9) == EXPECTED


# -- elements ------------------------------------------------------------------------------------


def spliced(*elements: bytes, before: bytes = b"\x10\x00\x10\x00PN") -> Header:
    """Put elements into the file, before the patient's name."""
    at = EXPLICIT.index(before)
    return READER.read(EXPLICIT[:at] + b"".join(elements) + EXPLICIT[at:]).instance.header


ITEM = b"\xfe\xff\x00\xe0"
END_OF_ITEM = b"\xfe\xff\x0d\xe0\0\0\0\0"
END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0\0\0\0\0"
UNDEFINED = b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "private",
    [
        element(0x0009_0010, "LO", b"VENDOR"),
        element(0x0009_1001, "UN", b"x" * 70_001),
        element(0x0009_1001, "OB", b"odd"),
        element(0x0009_1001, "ZZ", b"unknown!"),
        b"\x09\x00\x01\x10" + b"\x04\0\0\0" + b"impl",
        b"\x09\x00\x01\x10UN\0\0" + UNDEFINED + END_OF_SEQUENCE,
        b"\x09\x00\x01\x10SQ\0\0" + UNDEFINED + ITEM + b"\x04\0\0\0abcd" + END_OF_SEQUENCE,
        b"\x09\x00\x01\x10OB\0\0" + UNDEFINED + ITEM + b"\x03\0\0\0" + b"abc" + END_OF_SEQUENCE,
        # UN of undefined length holds items in implicit VR (PS3.5 6.2.2)
        b"\x09\x00\x01\x10UN\0\0" + UNDEFINED + ITEM + UNDEFINED + b"\x09\x00\x02\x10\x04\0\0\0abcd"
        + END_OF_ITEM + END_OF_SEQUENCE,
        b"\x09\x00\x01\x10SQ\0\0" + UNDEFINED + ITEM + UNDEFINED + element(0x0009_1002, "UN", b"ab")
        + b"\x09\x00\x03\x10SQ\0\0" + UNDEFINED + END_OF_SEQUENCE + END_OF_ITEM + END_OF_SEQUENCE,
    ],
)  # fmt: skip
def test_private_elements_are_stepped_over(private: bytes):
    assert spliced(private) == EXPECTED.instance.header


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_of_undefined_length(undefined: bool):
    dataset = example()
    for sequence in (dataset["RequestAttributesSequence"], dataset["ProcedureCodeSequence"]):
        sequence.is_undefined_length = undefined
        for nested in sequence.value:
            nested.is_undefined_length_sequence_item = undefined
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.ExplicitVRLittleEndian):
        assert READER.read(part10(dataset, syntax)) == EXPECTED


def test_a_wanted_sequence_as_un_in_implicit_vr():
    inner = b"\x08\0\0\1\x04\0\0\0MRP " + b"\x08\0\2\1\x04\0\0\x0099A "
    item_ = ITEM + len(inner).to_bytes(4, "little") + inner
    found = spliced(element(0x0008_2228, "SH", b"x "), element(0x0009_1001, "UN", item_))
    assert found == EXPECTED.instance.header
    data = part10(example(ProcedureCodeSequence=None, RequestAttributesSequence=None))
    at = data.index(b"\x10\x00\x10\x00PN")
    for undefined in (False, True):
        tail = UNDEFINED + item_ + END_OF_SEQUENCE
        un = b"\x32\x00\x64\x10UN\0\0" + (
            tail if undefined else len(item_).to_bytes(4, "little") + item_
        )
        at = data.index(b"\x38\x00\x10\x00LO")
        codes = READER.read(data[:at] + un + data[at:]).instance.header.study.procedure_codes
        assert [(c.value, c.scheme) for c in codes] == [("MRP", "99A")]


def test_wanted_elements_of_another_vr():
    data = EXPLICIT.replace(b"\x08\0\x60\0CS\x02\0MR", b"\x08\0\x60\0US\x02\0MR")
    found = READER.read(data).instance.header
    assert found.series.modality is None
    assert [(r.code, r.tag) for r in found.remarks] == [("wrong-type", "(0008,0060)")]
    as_unknown = EXPLICIT.replace(b"\x08\0\x60\0CS\x02\0MR", b"\x08\0\x60\0UN\0\0\x02\0\0\0MR")
    assert READER.read(as_unknown) == EXPECTED


def test_what_comes_after_the_header_is_never_read():
    functional_groups = b"\x00\x52\x29\x92SQ\0\0" + UNDEFINED + b"\xff" * 100
    assert READER.read(EXPLICIT + functional_groups) == EXPECTED


# -- character sets ------------------------------------------------------------------------------

NAMES = [
    ("ISO_IR 100", "Müller^Jörg"),
    ("ISO_IR 101", "Łukasz^Ží"),
    ("ISO_IR 109", "Ĥĝ^Ŭ"),
    ("ISO_IR 110", "Āž^Ķ"),
    ("ISO_IR 126", "Διονυσιος"),
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 144", "Люкceмбypг"),
    ("ISO_IR 148", "Çağ^Şı"),
    ("ISO_IR 166", "นามสกุล^ชื่อ"),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 192", "李^明=Ünïcode"),
    ("GB18030", "王^小东"),
    ("GBK", "王^小东"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO-IR 100", "Müller"),
    ("ISO_IR_100", "Müller"),
    ("UTF8", "Müller"),
    ("ISO 2022 IR 100\\ISO_IR 192", "Mueller"),
]


def in_charset(terms: str, name: bytes, **changes: Any) -> bytes:
    """Write a file with a name in these very bytes."""
    stated = terms.encode() + b" " * (len(terms) % 2)
    padded = name + b" " * (len(name) % 2)
    data = part10(example(SpecificCharacterSet=None, PatientName="PLACEHOLDER", **changes))
    data = data.replace(
        b"PN\x0c\x00PLACEHOLDER ", b"PN" + len(padded).to_bytes(2, "little") + padded
    )
    at = data.index(b"\x08\x00\x08\x00CS")
    return data[:at] + element(0x0008_0005, "CS", stated) + data[at:]


@pytest.mark.parametrize(("terms", "name"), NAMES)
@pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set")
@pytest.mark.filterwarnings("ignore:Value 'ISO_IR 192' cannot be used")
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_character_sets(terms: str, name: str):
    spelt = {"UTF8": "ISO_IR 192", "ISO-IR 100": "ISO_IR 100", "ISO_IR_100": "ISO_IR 100"}
    codecs = convert_encodings(spelt.get(terms, terms).split("\\"))
    groups = [
        b"^".join(encode_string(part, codecs) for part in group.split("^"))
        for group in name.split("=")
    ]
    found = READER.read(in_charset(terms, b"=".join(groups))).instance.header
    assert found.patient.name == name
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("terms", "raw", "name"),
    [
        (
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东",
        ),
        ("ISO 2022 IR 6\\ISO 2022 IR 100", b"M\x1b-A\xfcller^J\x1b-A\xf6rg", "Müller^Jörg"),
        (
            "ISO 2022 IR 100\\ISO 2022 IR 144",
            b"M\xfcller=\x1b-L\xbb\xee^M\xfcller",
            "Müller=Лю^Müller",
        ),
    ],
)
def test_code_extensions_end_with_a_component(terms: str, raw: bytes, name: str):
    found = READER.read(in_charset(terms, raw)).instance.header
    assert (found.patient.name, found.remarks) == (name, ())


@pytest.mark.parametrize("raw", [b"\x1b-L\xbb", b"\x1b$B\xff\xff", b"a\x1bZ", b"\x1b"])
def test_code_extensions_that_were_not_declared(raw: bytes):
    found = READER.read(in_charset("ISO_IR 100", b"Adam" + raw)).instance.header
    assert (found.patient.name or "").startswith("Adam")
    assert [(r.code, r.tag) for r in found.remarks] == [("text-undecodable", "(0010,0010)")]


def test_undeclared_bytes_are_not_guessed():
    found = READER.read(in_charset("", "Müller".encode("latin-1"))).instance.header
    assert found.patient.name == "M\ufffdller"
    assert [(r.code, r.tag) for r in found.remarks] == [("text-undecodable", "(0010,0010)")]


def test_unknown_character_set_is_remarked_upon():
    found = READER.read(in_charset("ISO_IR 999", b"Adam")).instance.header
    assert found.patient.name == "Adam"
    assert [(r.code, r.tag) for r in found.remarks] == [("character-set-unknown", "(0008,0005)")]


def test_the_site_may_say_what_silence_means():
    reader = HeaderReader(HeaderSettings(default_character_set="ISO_IR 100"))
    found = reader.read(in_charset("", "Müller".encode("latin-1"))).instance.header
    assert (found.patient.name, found.remarks) == ("Müller", ())


def test_a_byte_that_looks_like_a_backslash():
    found = READER.read(in_charset("GB18030", "李^誠".encode("gb18030"))).instance.header
    assert found.patient.name == "李^誠"


@given(st.binary(max_size=60), st.sampled_from([terms for terms, _ in NAMES]), st.booleans())
def test_any_bytes_decode_somehow(raw: bytes, terms: str, name: bool):
    charset = character_set(tuple(terms.split("\\")))
    if charset is not None:
        text, whole = charset.decode(raw, name=name)
        assert whole is False or "\ufffd" not in text or terms in {"ISO_IR 192", "UTF8", "GB18030"}
