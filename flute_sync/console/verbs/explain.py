"""How links are told: to people in sentences, to programs in the documented shape."""

from datetime import UTC, date, datetime
from typing import Any

import click

from flute_sync.ledger import LinkDecision, LinkRow, LinkView


def as_dict(view: LinkView) -> dict[str, Any]:
    """Return the documented shape."""
    return {
        "study_instance_uid": view.study_instance_uid,
        "links": [link_as_dict(row) for row in view.rows if row.taken],
        "refused": [link_as_dict(row) for row in view.rows if not row.taken],
        "decisions": [_decision(one) for one in view.decisions],
    }


def link_as_dict(row: LinkRow) -> dict[str, Any]:
    """Return a link, or why there is none."""
    return {
        "reference": row.reference,
        "kind": row.kind,
        "rule": row.rule,
        "verdict": row.verdict,
        "waived": list(row.waived),
        "reason": row.reason,
        "when": None if row.low is None else {"low": row.low, "high": row.high},
        "ours": row.ours,
    }


def show(view: LinkView) -> None:
    """Print what was judged, and what people decided."""
    taken = [row for row in view.rows if row.taken]
    refused = [row for row in view.rows if not row.taken]
    click.secho(f"{view.study_instance_uid}  linked to {len(taken)} variables", bold=True)
    for row in taken:
        click.echo(f"  {line(row)}")
    if refused:
        click.echo(f"not linked to {len(refused)}:")
    for row in refused:
        click.echo(f"  {line(row)}")
    judged = {row.reference for row in view.rows}
    for one in view.decisions:
        click.echo(f"a person said {one.verb} {one.reference} ({_time(one.at)}): {one.why}")
        if one.reference not in judged:
            click.secho("  no such variable of this patient is known", fg="yellow")


def line(row: LinkRow) -> str:
    """Return one sentence on a link, or on why there is none."""
    when = f" of {_day(row)}" if row.low is not None else ", undated"
    waived = f"; waived: {', '.join(row.waived)}" if row.taken and row.waived else ""
    said = f"{row.kind} {row.reference}{when}: {row.reason}"
    return f"{said} [{row.rule}, {row.verdict}{waived}]"


def _day(row: LinkRow) -> str:
    if row.low == row.high:
        return str(row.low)
    if row.low == date.min.isoformat():
        return f"{row.high} or before"
    return f"{row.low} or after" if row.high == date.max.isoformat() else f"{row.low} to {row.high}"


def _decision(one: LinkDecision) -> dict[str, Any]:
    return {"reference": one.reference, "verb": one.verb, "why": one.why, "at": _time(one.at)}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
