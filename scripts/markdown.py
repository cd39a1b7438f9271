"""Tables and sentences in Markdown."""

import re
from collections.abc import Iterable


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """Write a Markdown table; ``head`` names its columns, separated by commas."""
    titles = head.split(", ")
    lines = [titles, ["---"] * len(titles)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def prose(text: str | None) -> str:
    """Return a docstring as sentences in Markdown, on one line; a value's name stays as it is."""
    words = " ".join((text or "").split()).replace("``", "`")
    if not re.match(r"[a-z-]+[:;]", words):
        words = words[:1].upper() + words[1:]
    return words if words.endswith((".", ":")) else f"{words}."
