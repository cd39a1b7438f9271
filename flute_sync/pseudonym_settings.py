"""``[pseudonyms]``: what the FHIR server may know of persons; docs/pseudonyms.md says more."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flute_sync.settings import SecretFile, Settings, Uri

Dates = Literal["recorded", "shifted-alike", "shifted-here"]
"""Whether dates in FHIR are those of the archive, and whether the clinical data go with them."""


class PseudonymSettings(Settings):
    """``[pseudonyms]``: what the FHIR server may know of persons.

    docs/pseudonyms.md tells what is replaced, how keys are kept, and how clinical data follow.
    """

    mode: Literal["off", "hmac"] = "off"
    """off: identifiers go to FHIR as the archive states them; hmac: each is replaced by a keyed
    pseudonym, HMAC-SHA-256."""

    key_file: SecretFile | None = None
    """The key of the pseudonyms: at least 32 bytes of text, in a file that others cannot read."""

    system: Uri | None = None
    """Identifier system of all pseudonyms."""

    birth_date: Literal["year", "none"] = "year"
    """What of the birth date is used where identifiers are replaced, to compare with the Patient
    and for one that is created; none: nothing."""

    sources: Literal["one-kind", "identified", "pseudonymised"] = "one-kind"
    """What the archives hold. Studies of the other kind are held, by (0012,0062) and (0012,0064);
    one-kind: the first study that is written decides."""

    unmarked: Literal["identified", "pseudonymised"] = "identified"
    """What instances are that state neither (0012,0062) nor (0012,0064); with "pseudonymised",
    dates that state no (0028,0303) count as shifted where they are shifted-alike, too."""

    dates: Dates = "recorded"
    """recorded: as in the archive; those it says it modified are tagged date-untrusted.
    shifted-alike: the archive shifted them, and the clinical data by the same days. shifted-here:
    they are shifted on the way to FHIR, for each patient by days of his own."""

    largest_shift: Annotated[int, Field(ge=7, le=36525)] = 364
    """By how many days dates go back at most, with shifted-here; at least by one, or by a week."""

    whole_weeks: bool = True
    """Shift by whole weeks, so that each date keeps its day of the week."""

    @property
    def is_pseudonymous(self) -> bool:
        """Whether FHIR holds pseudonyms, whoever made them."""
        return self.mode == "hmac" or self.sources == "pseudonymised"

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.mode == "hmac" and (self.key_file is None or self.system is None):
            raise ValueError('pseudonyms.mode = "hmac" needs pseudonyms.key_file and .system')
        if self.dates == "shifted-here" and self.mode != "hmac":
            raise ValueError('pseudonyms.dates = "shifted-here" needs pseudonyms.mode = "hmac"')
        return self
