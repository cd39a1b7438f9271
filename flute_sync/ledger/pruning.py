"""Dropping what names a patient, where a study is out of this site's scope."""

from sqlalchemy import Connection, update

from flute_sync.ledger.instances import forget_all
from flute_sync.ledger.links import forget_people as forget_links
from flute_sync.ledger.steps import forget_people
from flute_sync.ledger.tables import study, study_archive


def prune(connection: Connection, study_id: int) -> None:
    """Leave a minimal row of a study; steps stay without what they say of people."""
    forget_all(connection, study_id)
    forget_people(connection, study_id)
    forget_links(connection, study_id)
    connection.execute(
        update(study_archive)
        .where(study_archive.c.study_id == study_id)
        .values(patient_ids=[], patients=[])
    )
    connection.execute(
        update(study)
        .where(study.c.id == study_id)
        .values(
            pruned=True,
            series_count=0,
            instance_count=0,
            stated_series=0,
            stated_instances=0,
            last_series=0,
            last_header=0,
            patient_reference=None,
        )
    )
