"""Specific Character Set (0008,0005): its defined terms and escape sequences as Python codecs.

The tables are those of pydicom.charset (a test compares them); importing it would keep all of
pydicom and numpy in memory.

References
----------
PS3.3 C.12.1.1.2, Tables C.12-2 to C.12-5 (2026b).
"""

from collections.abc import Mapping
from typing import Final

STAND_ALONE: Final = frozenset({"ISO_IR 192", "GB18030", "GBK"})
"""Terms that allow no code extensions (PS3.5 6.1.2.5.4)."""

CODEC_OF_TERM: Final[Mapping[str, str]] = {
    "ISO_IR 6": "ascii",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso_ir_126",
    "ISO_IR 127": "iso_ir_127",
    "ISO_IR 138": "iso_ir_138",
    "ISO_IR 144": "iso_ir_144",
    "ISO_IR 148": "iso_ir_148",
    "ISO_IR 166": "iso_ir_166",
    "ISO_IR 192": "UTF8",
    "ISO 2022 IR 6": "ascii",
    "ISO 2022 IR 13": "shift_jis",
    "ISO 2022 IR 58": "iso_ir_58",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 100": "latin_1",
    "ISO 2022 IR 101": "iso8859_2",
    "ISO 2022 IR 109": "iso8859_3",
    "ISO 2022 IR 110": "iso8859_4",
    "ISO 2022 IR 126": "iso_ir_126",
    "ISO 2022 IR 127": "iso_ir_127",
    "ISO 2022 IR 138": "iso_ir_138",
    "ISO 2022 IR 144": "iso_ir_144",
    "ISO 2022 IR 148": "iso_ir_148",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 166": "iso_ir_166",
    "GB18030": "GB18030",
    "GBK": "GBK",
    "ISO 2022 GBK": "GBK",
    "ISO 2022 58": "GB2312",
}
"""Defined term -> codec. shift_jis also reads JIS X 0201, which has no codec of its own."""

CODEC_OF_ESCAPE: Final[Mapping[bytes, str]] = {
    b"\x1b(B": "iso8859",
    b"\x1b(J": "shift_jis",
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso_ir_126",
    b"\x1b-G": "iso_ir_127",
    b"\x1b-H": "iso_ir_138",
    b"\x1b-L": "iso_ir_144",
    b"\x1b-M": "iso_ir_148",
    b"\x1b-T": "iso_ir_166",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)A": "iso_ir_58",
    b"\x1b$)C": "euc_kr",
}
"""Escape sequence -> codec."""
