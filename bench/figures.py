"""What a bench found, its goal, and the table of all."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Parameters
    ----------
    name
        What was measured.
    value
        A ratio, or an amount in ``unit``.
    at_least, at_most
        The goal; neither: the figure is for information.
    detail
        What the value was made from.
    """

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}".rstrip()
        return f"<= {self.at_most:g} {self.unit}".rstrip() if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.at_least is not None:
            return "met" if self.value >= self.at_least else "missed"
        if self.at_most is not None:
            return "met" if self.value <= self.at_most else "missed"
        return ""


def table(figures: Iterable[Figure]) -> str:
    """Write figures as a table for the terminal, which is Markdown too."""
    rows = [("measured", "figure", "goal", "verdict", "from")]
    rows += [
        (one.name, f"{one.value:.3g} {one.unit}".rstrip(), one.goal, one.verdict, one.detail)
        for one in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], _line(["-" * width for width in widths], widths), *lines[1:]])


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
