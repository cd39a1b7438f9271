"""How the series of a study and what they are for are told."""

from collections.abc import Iterator
from typing import Any

import click

from flute_sync.series_role import SeriesRole, roles
from flute_sync.study import Series, Study, prevalent


def as_dicts(study: Study) -> list[dict[str, Any]]:
    """Return the documented shape, in the order of the series' numbers."""
    return [
        {
            "series_instance_uid": series.series_instance_uid,
            "number": _number(series),
            "modality": _modality(series),
            "instances": series.size,
            "role": role.role,
            "plane": role.plane,
            "b_values": [_plain(value) for value in role.b_values],
            "contrast_agent": role.contrast_agent,
            "told_by": list(role.told_by),
        }
        for series, role in _in_order(study)
    ]


def show(study: Study) -> None:
    """Print one line for each series."""
    for series, role in _in_order(study):
        number, modality = _number(series), _modality(series)
        said = [role.role or "role unknown"]
        if role.plane is not None:
            said.append(role.plane)
        if role.b_values:
            values = ", ".join(str(_plain(value)) for value in role.b_values)
            said.append(f"b {values} s/mm2")
        if role.contrast_agent:
            said.append("contrast agent")
        click.echo(
            f"  series {'?' if number is None else number}, {modality or 'no modality'},"
            f" {series.size} instances: {', '.join(said)}"
        )


def _in_order(study: Study) -> Iterator[tuple[Series, SeriesRole]]:
    told = roles(study)
    for series in sorted(study.series, key=_place):
        yield series, told[series.series_instance_uid]


def _place(series: Series) -> tuple[bool, int, str]:
    number = _number(series)
    return number is None, number or 0, series.series_instance_uid


def _number(series: Series) -> int | None:
    return prevalent(series.headers, lambda header: header.series.number)


def _modality(series: Series) -> str | None:
    return prevalent(series.headers, lambda header: header.series.modality)


def _plain(value: float) -> int | float:
    return int(value) if value.is_integer() else value
