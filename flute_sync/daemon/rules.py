"""What decides about a study besides the study itself: where it changes, all are judged again."""

import hashlib
from typing import Any, Final

import orjson

from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.daemon.config import Config
from flute_sync.link_settings import UNJUDGED
from flute_sync.study import EXTRACTION_VERSION
from flute_sync.supporting_info import RULES_VERSION

MAPPING_VERSION: Final = 2
"""Raised when the mapping says the same study in another way: studies are judged again then."""


def digest_of(config: Config, persons: list[Any]) -> str:
    """Return a digest of it.

    Parameters
    ----------
    persons
        What may be told of persons, as JSON.
    """
    rules = [
        MAPPING_VERSION,
        EXTRACTION_VERSION,
        config.select.model_dump(mode="json"),
        config.patient.model_dump(mode="json"),
        config.imaging_study.model_dump(mode="json"),
        persons,
        RULES_VERSION,
        config.derived.model_dump(mode="json"),
        config.links.model_dump(mode="json", exclude={*UNJUDGED}),
        config.site.timezone,
        config.identifier_system,
        [_told(entry) for entry in config.every_archive],
    ]
    data = orjson.dumps(rules, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _told(entry: ArchiveEntry) -> list[Any]:
    """What an archive's settings say in a resource."""
    told = {"name", "timezone", "patient_default_system", "patient_systems"}
    return [entry.published_url, entry.model_dump(mode="json", include=told)]
