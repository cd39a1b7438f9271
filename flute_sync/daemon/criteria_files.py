"""The files of criteria: those that come with flute-sync, and a site's own."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from flute_sync.criteria_artefacts import (
    LIBRARY,
    by_cql,
    by_fhirpath,
    cql_parameters,
    fhirpath_names,
    library,
    library_contents,
)
from flute_sync.criterion_errors import CriterionMalformed, CriterionUnreadable
from flute_sync.daemon.config import Config
from flute_sync.exports.judging import ready
from flute_sync.own_criterion import LARGEST_BYTES, OwnCriterion, read
from flute_sync.own_resources import Definition

BY_FHIRPATH: Final = "-fhirpath"
"""What tells one EvidenceVariable of the built-in criterion from the other."""
FOLDER: Final = files("flute_sync") / "criteria"
"""What comes with flute-sync."""


def built_in(define: Mapping[str, str] | None = None) -> OwnCriterion:
    """Return the built-in criterion as FHIRPath.

    Parameters
    ----------
    define
        What stands for some names instead.
    """
    return read((FOLDER / "mri-before-biopsy.toml").read_text(encoding="utf-8"), define)


def own(path: Path) -> OwnCriterion:
    """Read a criterion of a site's own.

    Raises
    ------
    CriterionUnreadable, CriterionMalformed
        The file cannot be read, or is none.
    """
    if not path.is_file():
        raise CriterionUnreadable(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise CriterionUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > LARGEST_BYTES:
        raise CriterionMalformed(f"{path}: larger than {LARGEST_BYTES // 1024} KiB")
    try:
        return read(data.decode())
    except UnicodeDecodeError:
        raise CriterionMalformed(f"{path}: it is not UTF-8") from None
    except CriterionMalformed as error:
        raise CriterionMalformed(f"{path}: {error.detail}") from None


def artefacts(config: Config) -> tuple[Definition, ...]:
    """Return what is published of the criteria: the built-in one, and the site's own.

    Raises
    ------
    CriterionUnreadable, CriterionMalformed
        A file of the site is not sound.
    """
    settings, site, system = config.criteria, config.links, config.identifier_system
    base = (settings.canonical or config.fhir.base_url).rstrip("/")
    criterion = built_in(fhirpath_names(settings, site))
    contents = library_contents(
        (FOLDER / f"{LIBRARY}.cql").read_text(encoding="utf-8"),
        (FOLDER / f"{LIBRARY}.elm.json").read_bytes(),
        cql_parameters(settings, site),
    )
    of_site = [ready(own(Path(one))) for one in settings.files]
    names = [criterion.name, f"{criterion.name}{BY_FHIRPATH}", *(one.name for one in of_site)]
    if len(set(names)) < len(names):
        raise CriterionMalformed("criteria.files: two have one name, or one has the built-in one's")
    return (
        library(base, system, contents),
        by_cql(base, system, criterion),
        by_fhirpath(base, system, criterion, BY_FHIRPATH),
        *(by_fhirpath(base, system, one) for one in of_site),
    )


def criterion_named(named: str, known: Sequence[str]) -> OwnCriterion | None:
    """Return a criterion by its file, or by its name; None: the built-in one.

    Parameters
    ----------
    known
        The files among which a name is looked for.

    Raises
    ------
    CriterionUnreadable, CriterionMalformed
        There is none, or its file is not sound.
    """
    if named == built_in().name:
        return None
    if "/" in named or named.endswith(".toml"):
        return own(Path(named))
    found = [one for one in map(own, map(Path, known)) if one.name == named]
    if not found:
        raise CriterionUnreadable(f"criteria.files has none of the name {named}")
    return found[0]
