"""The tables. What cannot be true, the database refuses.

`study` has the current state of the work; `identity_key` the single identifiers where archives
name the patient by several, of which `study` has one hash for all; `series`, `header` and
`instance` what is known of it;
`stated_series` what archives say that tell no instances; `procedure_step` what modalities say;
`study_archive` how each archive stands to it; `foreign_note` what its rejection notes say of
other studies; `link` is what was judged last of the FLUTE variables of its patient,
`link_decision` what people decided, `link_epoch` counts what may change the judgement of a patient;
`regime` is under which pseudonyms all this was written, and from which kind of sources;
`event` is the audit trail for people; `erasure`, `erased_mark` and `erasure_item` are who was
erased, by which keyed hashes, and what the FHIR server still has. Instances are the big table:
their key is (study, SOP Instance UID), since a SOP Instance UID is unique in its study, and they
refer to series and header by small numbers within the study.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from flute_sync.fhir_dates import Verdict
from flute_sync.ledger.columns import JsonText, UtcTime
from flute_sync.ledger.schema import KEY, ORDERED_UID, UID, metadata, one_of
from flute_sync.study import StepStatus
from flute_sync.task import CLAIMABLE, UNSYNCED, State

LARGEST_ARCHIVE_ID: Final = 63
"""The archives that hold an instance are bits of one signed 64-bit number."""

WAITS_FOR_PATIENT: Final = "state = 'on-hold' AND coalesce(code, '') = 'PATIENT-ABSENT'"
"""Nothing is wrong with these studies, and no delay is theirs."""

archive: Final = Table(
    "archive",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    CheckConstraint(f"id BETWEEN 1 AND {LARGEST_ARCHIVE_ID}", name="id"),
)

study: Final = Table(
    "study",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("study_instance_uid", ORDERED_UID, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False),  # raised by each new fact
    Column("received_at", UtcTime, nullable=False),  # newest fact
    Column("news_since", UtcTime),  # oldest fact that came after the last claim
    Column("unsynced_since", UtcTime),  # oldest fact that FHIR does not have
    Column("next_attempt_at", UtcTime),  # when it may be claimed; for a held one, the lease's end
    Column("lease_owner", Text),
    Column("attempts", Integer, nullable=False),
    Column("confirmed", Integer),  # generation at which a person asked for another attempt
    Column("series_count", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("last_series", Integer, nullable=False),  # numbers given out so far
    Column("last_header", Integer, nullable=False),
    Column("calling_ae_titles", JsonText, nullable=False),
    Column("pruned", Boolean, nullable=False),
    Column("code", Text),
    Column("sentence", Text),
    Column("waiting_for", Text),  # keyed hash of an identifier: the Patient whose arrival wakes it
    Column("patient_reference", Text),
    Column("rules", Text),
    Column("identity", Text),  # keyed hash of the identifier by which the subject was found last
    Column("confirmed_identity", Text),  # whom a person confirms: the last hold named them
    Column("stated_series", Integer, nullable=False, server_default="0"),  # without instances
    Column("stated_instances", Integer, nullable=False, server_default="0"),
    CheckConstraint("length(study_instance_uid) BETWEEN 1 AND 64", name="uid"),
    CheckConstraint(one_of("state", State), name="state"),
    CheckConstraint(
        f"({one_of('state', CLAIMABLE)}) = (next_attempt_at IS NOT NULL)", name="claimable"
    ),
    CheckConstraint(
        f"({one_of('state', UNSYNCED)}) = (unsynced_since IS NOT NULL)", name="unsynced"
    ),
    CheckConstraint("(state = 'in-progress') = (lease_owner IS NOT NULL)", name="lease"),
    CheckConstraint(
        "waiting_for IS NULL OR state IN ('cancelled', 'completed', 'on-hold')", name="waiting"
    ),
    CheckConstraint("generation >= 0 AND attempts >= 0", name="generation"),
    CheckConstraint(
        "series_count >= 0 AND instance_count >= series_count"
        " AND last_series >= series_count AND last_header >= 0",
        name="counts",
    ),
    CheckConstraint(
        "NOT pruned OR (instance_count = 0 AND patient_reference IS NULL)",
        name="pruned",
    ),
    CheckConstraint(
        "stated_series >= 0 AND stated_instances >= 0 AND NOT (pruned AND stated_series > 0)",
        name="stated",
    ),
)

Index(
    "ix_study_totals",
    study.c.state,
    study.c.series_count,
    study.c.instance_count,
    study.c.stated_series,
    study.c.stated_instances,
)

identity_key: Final = Table(
    "identity_key",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("key", Text, nullable=False, index=True),  # keyed hash, as those of study
    PrimaryKeyConstraint("study_id", "key"),
    sqlite_with_rowid=False,
)

study_archive: Final = Table(
    "study_archive",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("archive_id", Integer, ForeignKey("archive.id"), nullable=False),
    Column("read_owed", Integer),  # generation from which its metadata must be read
    Column("unverified", Integer),  # generation since which its counts were not compared
    Column("series_count", Integer),
    Column("instance_count", Integer),
    Column("fingerprints", JsonText, nullable=False),  # by source; "" is what our own read saw
    Column("absent_since", UtcTime),
    Column("absences", Integer, nullable=False),
    Column("patient_ids", JsonText, nullable=False, server_default="[]"),  # all that it states
    Column("patients", JsonText, nullable=False, server_default="[]"),  # with birth date and sex
    PrimaryKeyConstraint("study_id", "archive_id"),
    CheckConstraint("read_owed >= 0 AND unverified >= 0", name="generation"),
    CheckConstraint("series_count >= 0 AND instance_count >= 0", name="counts"),
    CheckConstraint("absences >= 0 AND (absences = 0) = (absent_since IS NULL)", name="absence"),
    sqlite_with_rowid=False,
)


series: Final = Table(
    "series",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("series", Integer, nullable=False),
    Column("series_instance_uid", UID, nullable=False, index=True),
    PrimaryKeyConstraint("study_id", "series"),
    UniqueConstraint("study_id", "series_instance_uid"),
    CheckConstraint("length(series_instance_uid) BETWEEN 1 AND 64", name="uid"),
    sqlite_with_rowid=False,
)

header: Final = Table(
    "header",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("header", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("extraction_version", SmallInteger, nullable=False),
    Column("text", Text, nullable=False),  # study.Header as JSON, without defaults
    PrimaryKeyConstraint("study_id", "header"),
    UniqueConstraint("study_id", "digest"),
)

instance: Final = Table(
    "instance",
    metadata,
    Column("study_id", KEY, nullable=False),
    Column("sop_instance_uid", LargeBinary, nullable=False),  # columns.pack_uid
    Column("series", Integer, nullable=False),
    Column("header", Integer, nullable=False),
    Column("number", BigInteger),
    Column("generation", Integer, nullable=False),  # of the study, when it was last news
    Column("archives", BigInteger, nullable=False),  # bit n - 1: the archive with id n holds it
    PrimaryKeyConstraint("study_id", "sop_instance_uid"),
    ForeignKeyConstraint(["study_id", "series"], ["series.study_id", "series.series"]),
    ForeignKeyConstraint(["study_id", "header"], ["header.study_id", "header.header"]),
    CheckConstraint("archives > 0", name="archives"),
    sqlite_with_rowid=False,
)

stated_series: Final = Table(
    "stated_series",
    metadata,
    Column("study_id", KEY, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("archive_id", Integer, ForeignKey("archive.id"), nullable=False),
    Column("header", Integer, nullable=False),
    Column("instance_count", Integer),
    PrimaryKeyConstraint("study_id", "series_instance_uid", "archive_id"),
    ForeignKeyConstraint(["study_id", "header"], ["header.study_id", "header.header"]),
    CheckConstraint("length(series_instance_uid) BETWEEN 1 AND 64", name="uid"),
    CheckConstraint("instance_count >= 0", name="count"),
    sqlite_with_rowid=False,
)

procedure_step: Final = Table(
    "procedure_step",
    metadata,
    Column("sop_instance_uid", UID, nullable=False),
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("archive_id", Integer, ForeignKey("archive.id"), nullable=False),  # said for this one
    Column("status", String(16), nullable=False),
    Column("told_at", UtcTime, nullable=False),
    Column("extraction_version", SmallInteger, nullable=False),
    Column("text", Text, nullable=False),  # study.Header as JSON, without defaults
    PrimaryKeyConstraint("sop_instance_uid", "study_id"),
    CheckConstraint("length(sop_instance_uid) BETWEEN 1 AND 64", name="uid"),
    CheckConstraint(one_of("status", StepStatus), name="status"),
    sqlite_with_rowid=False,
)

foreign_note: Final = Table(
    "foreign_note",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("named_study_uid", UID, nullable=False, index=True),
    Column("title", Text, nullable=False),  # code value of the rejection note, DCM
    Column("instances", JsonText, nullable=False),  # series UID -> SOP Instance UIDs
    Column("patient_ids", Text, nullable=False, server_default="[]"),  # of the study that keeps it
    PrimaryKeyConstraint("study_id", "named_study_uid", "title"),
    CheckConstraint("length(named_study_uid) BETWEEN 1 AND 64", name="uid"),
    sqlite_with_rowid=False,
)

link: Final = Table(
    "link",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("reference", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("waived", JsonText, nullable=False),  # rules of its profile that it breaks
    Column("low", String(10)),  # ISO dates: when it took place
    Column("high", String(10)),
    Column("taken", Boolean, nullable=False),
    Column("ours", Boolean, nullable=False),  # what another system linked is never taken away
    PrimaryKeyConstraint("study_id", "reference"),
    CheckConstraint(one_of("verdict", Verdict), name="verdict"),
    CheckConstraint("taken OR NOT ours", name="ours"),
    sqlite_with_rowid=False,
)

link_decision: Final = Table(
    "link_decision",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("reference", Text, nullable=False),
    Column("verb", String(8), nullable=False),  # the last one on a pair is in force
    Column("why", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("verb IN ('add', 'release', 'remove')", name="verb"),
    Index("ix_link_decision_study", "study_id", "id"),
)

link_epoch: Final = Table(
    "link_epoch",
    metadata,
    Column("patient_reference", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

event: Final = Table(
    "event",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("study_id", KEY, ForeignKey("study.id", ondelete="CASCADE")),
    Column("at", UtcTime, nullable=False),
    Column("event", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("code", Text),
    Index("ix_event_study", "study_id", "id"),
)

source_cursor: Final = Table(
    "source_cursor",
    metadata,
    Column("source", Text, nullable=False),
    Column("archive_id", Integer, ForeignKey("archive.id"), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("source", "archive_id"),
)

intent: Final = Table(
    "intent",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("source", Text, nullable=False),
    Column("archive_id", Integer, ForeignKey("archive.id"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
    sqlite_autoincrement=True,  # a number must never come back as somebody else's intent
)

intent_study: Final = Table(
    "intent_study",
    metadata,
    Column("intent_id", KEY, ForeignKey("intent.id", ondelete="CASCADE"), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    PrimaryKeyConstraint("intent_id", "study_instance_uid"),
    sqlite_with_rowid=False,
)

fhir_target: Final = Table(
    "fhir_target",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("base_url", Text, nullable=False),
    Column("single", Boolean, nullable=False, unique=True),
    CheckConstraint("single", name="single"),
    sqlite_autoincrement=True,  # a target that was replaced must not be mistaken for the new one
)

fhir_study: Final = Table(
    "fhir_study",
    metadata,
    Column("study_id", KEY, ForeignKey("study.id"), primary_key=True),
    Column("target_id", Integer, ForeignKey("fhir_target.id"), nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("version_id", Text),
    Column("digest", Text),
    UniqueConstraint("target_id", "resource_id"),
)

erasure_key: Final = Table(
    "erasure_key",
    metadata,
    Column("single", Boolean, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    CheckConstraint("single", name="single"),
)

erasure: Final = Table(
    "erasure",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("begun_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    sqlite_autoincrement=True,  # the audit names it by its number
)

erased_mark: Final = Table(
    "erased_mark",
    metadata,
    Column("mark", LargeBinary, primary_key=True),  # marks.mark_of
    Column(
        "erasure_id", KEY, ForeignKey("erasure.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sqlite_with_rowid=False,
)

erasure_item: Final = Table(
    "erasure_item",
    metadata,
    Column("erasure_id", KEY, ForeignKey("erasure.id", ondelete="CASCADE"), nullable=False),
    Column("reference", Text, nullable=False),  # Type/id on the FHIR server
    PrimaryKeyConstraint("erasure_id", "reference"),
    sqlite_with_rowid=False,
)

regime: Final = Table(
    "regime",
    metadata,
    Column("single", Boolean, primary_key=True),
    Column("sources", Text),  # identified, pseudonymised; any in ledgers older than the rule
    Column("seal", Text, nullable=False),  # how identifiers and dates are replaced, never the key
    CheckConstraint("single", name="single"),
    CheckConstraint("sources IN ('any', 'identified', 'pseudonymised')", name="sources"),
)
