"""The migrations as files: the check of a ledger's revision reads their names alone."""

from alembic.script import ScriptDirectory

from flute_sync.ledger.alembic_upgrade import configuration
from flute_sync.ledger.migrate import _revisions, scripts


def test_each_file_is_named_after_its_revision_and_the_last_is_the_head() -> None:
    directory = ScriptDirectory.from_config(configuration(scripts()))
    chain = [script.revision for script in directory.walk_revisions()]
    assert chain == _revisions()[::-1]
    assert directory.get_heads() == chain[:1]
