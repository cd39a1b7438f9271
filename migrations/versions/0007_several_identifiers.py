"""What each archive states of a patient, and studies whose patient it names by several numbers."""

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"
branch_labels: Final = None
depends_on: Final = None

_KEY: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_IDENTIFYING: Final = {"(0010,0020)", "(0010,0021)", "(0010,0024)"}
_READ_AGAIN: Final = (
    "UPDATE study_archive SET read_owed ="
    " (SELECT generation FROM study WHERE study.id = study_archive.study_id)"
    " WHERE study_id IN"
    " (SELECT id FROM study WHERE state = 'on-hold' AND code = 'PATIENT-CONFLICT')"
)
_JUDGE_AGAIN: Final = (  # at the next start, since it was judged by rules that are not in force
    "UPDATE study SET rules = '' WHERE state = 'on-hold' AND code = 'PATIENT-CONFLICT'"
)


def upgrade() -> None:
    """Add a column and a table; who was held for two numbers is read and judged again."""
    op.execute("ALTER TABLE study_archive ADD COLUMN patients TEXT DEFAULT '[]' NOT NULL")
    op.create_table(
        "identity_key",
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name="fk_identity_key_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "key", name="pk_identity_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_identity_key_key", "identity_key", ["key"])
    _fill(op.get_bind())
    op.execute(_READ_AGAIN)
    op.execute(_JUDGE_AGAIN)


# -- what is known already -----------------------------------------------------------------------

_HOLDINGS: Final = sa.text(
    "SELECT DISTINCT study_id, header, archives FROM instance UNION ALL"
    " SELECT study_id, header, CAST(1 AS BIGINT) << (archive_id - 1) FROM stated_series"
    " ORDER BY study_id"
)
_HEADERS: Final = sa.text("SELECT study_id, header, text FROM header ORDER BY study_id")
_STATED: Final = sa.text(
    "UPDATE study_archive SET patients = :people WHERE study_id = :study AND archive_id = :archive"
)
_AT_ONCE: Final = 10_000


def _fill(connection: sa.Connection) -> None:
    """Say what archives state that share no instance of the study.

    Of an instance that several hold one header is kept: what the others say must be read again.
    """
    stated = [
        {"study": study, "archive": archive, "people": f"[{','.join(sorted(people))}]"}
        for study, said in _said(connection)
        for archive, people in said.items()
    ]
    for start in range(0, len(stated), _AT_ONCE):
        connection.execute(_STATED, stated[start : start + _AT_ONCE])


def _said(connection: sa.Connection) -> Iterator[tuple[int, dict[int, set[str]]]]:
    """Yield each study with what such archives state, by their ids."""
    streamed = {"yield_per": _AT_ONCE}
    with (
        connection.execute(_HEADERS, execution_options=streamed) as texts,
        connection.execute(_HOLDINGS, execution_options=streamed) as holdings,
    ):
        headers = groupby(texts, key=itemgetter(0))
        for study, held in groupby(holdings, key=itemgetter(0)):
            of_study = next(rows for of, rows in headers if of == study)
            people = {header: _person(json.loads(text)) for _, header, text in of_study}
            shared, said = 0, dict[int, set[str]]()
            for _, header, archives in held:
                if archives.bit_count() > 1:
                    shared |= archives
                else:
                    said.setdefault(archives.bit_length(), set()).add(people[header])
            yield study, {one: told for one, told in said.items() if not shared >> (one - 1) & 1}


def _person(header: dict[str, Any]) -> str:
    """Return what a stored header says of a patient, without names."""
    said = header.get("patient", {})
    person = {name: said[name] for name in ("id", "birth_date", "sex") if name in said}
    if "id" not in person and any(
        one["tag"] in _IDENTIFYING for one in header.get("remarks", ())
    ):  # stated, but it cannot be read
        person = {"id": {"value": ""}, **person}
    if "identity_removed" in said:
        person["identity_removed"] = said["identity_removed"]
    return json.dumps(person, ensure_ascii=False, separators=(",", ":"))
