"""Text that arrives in pieces, of which memory holds what is not read yet."""

from collections.abc import Iterable
from typing import Final

_SPACE: Final = " \t\r\n"


class ArrivingText:
    """What has arrived of a text and is not read; readers of JSON go on in it.

    Parameters
    ----------
    pieces
        The text, cut anywhere; a piece may be empty.

    Attributes
    ----------
    text
        What is held; `grow` drops what was read.
    at
        Where the next character to read stands in it.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self.text = ""
        self.at = 0

    @property
    def held(self) -> int:
        """How many characters are there to read."""
        return len(self.text) - self.at

    def peek(self) -> str:
        """Return the next character that is no space of JSON, or nothing at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.grow(1):
                return ""

    def grow(self, wanted: int) -> bool:
        """Hold so many characters, and more than before; tell whether any came."""
        parts, held = [self.text[self.at :]], self.held
        before = held
        for piece in self._pieces:
            parts.append(piece)
            held += len(piece)
            if held >= wanted and held > before:
                break
        self.text, self.at = "".join(parts), 0
        return held > before
