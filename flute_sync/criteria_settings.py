"""``[criteria]``: how eligibility criteria are judged; docs/criteria.md says what each means."""

from typing import Annotated, Literal

from pydantic import Field

from flute_sync.settings import HttpUrl, Settings


class CriteriaSettings(Settings):
    """``[criteria]``: how patients are judged by the criterion of FLUTE's study."""

    prostate: Literal["not-contradicted", "certain"] = "not-contradicted"
    """Which MRIs count. not-contradicted: all but those that positively show another part of the
    body; certain: only those that positively show the prostate, by body site or by
    ``links.prostate_procedures`` and ``links.prostate_description``."""

    same_day: Literal["unknown", "include", "exclude"] = "unknown"
    """What an MRI of the day of the biopsy is, where no times with a zone tell their order.
    include: before it; exclude: not before it."""

    files: tuple[Annotated[str, Field(pattern=r"^/.+")], ...] = ()
    """Criteria of the site's own, each the absolute path of a TOML file with FHIRPath in it."""

    canonical: HttpUrl | None = None
    """Address under which the criteria are published as EvidenceVariable and Library; none:
    ``fhir.base_url``."""

    @property
    def rules(self) -> dict[str, str]:
        """What decides, by its name."""
        return {"prostate": self.prostate, "same_day": self.same_day}
