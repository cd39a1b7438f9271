"""The audit: a line is whole, or it is told."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flute_sync.daemon.audit import Audit, EraseSettings
from flute_sync.erase_errors import AuditUnwritable


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """Let the operating system take no more than this of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_of_which_the_disk_takes_a_part_is_not_taken_for_written(tmp_path: Path) -> None:
    audit = Audit(EraseSettings(audit_file=tmp_path / "audit.jsonl"))
    audit.write("erase.begun", {"why": "consent withdrawn"})
    size_bytes = audit.settings.audit_file.stat().st_size
    with files_end_at(size_bytes + 20), pytest.raises(AuditUnwritable):
        audit.write("erase.ended", {"outcome": "complete"})
    first = audit.settings.audit_file.read_text().splitlines()[0]
    assert json.loads(first)["why"] == "consent withdrawn"
