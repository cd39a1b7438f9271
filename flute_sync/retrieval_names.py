"""Where each file goes: names that are the same in each run, safe, and by default pseudonymous.

::

    sub-<patient>/ses-<study>/<series>/<instance>.dcm

Of what a server says only numbers, modality codes and legal UIDs become part of a name; all else
passes through a keyed hash. So no resource can lead out of the folder.

References
----------
BIDS 1.10, "Filesystem structure", for ``sub-`` and ``ses-``; RFC 2104
"""

import hmac
import re
from dataclasses import dataclass
from typing import Final, Literal

_DIGITS: Final = 12  # 48 bits: two of a million collide with a probability of 0.2 %
_MODALITY: Final = re.compile(r"[A-Z0-9]{1,16}")
_FHIR_ID: Final = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})")

Naming = Literal["pseudonym", "uid"]


@dataclass(frozen=True, slots=True)
class Names:
    """How files are named.

    Parameters
    ----------
    naming
        By pseudonyms, or by the FHIR server's id of the patient and by UIDs.
    key
        Of the pseudonyms.
    """

    naming: Naming
    key: bytes

    def study(self, subject: str | None, study_uid: str) -> str:
        """Return the folder of a study; one that names no patient is a patient's of its own."""
        whose = subject or study_uid
        if self.naming == "pseudonym":
            return f"sub-{self._hidden(whose)}/ses-{self._hidden(study_uid)}"
        patient = _FHIR_ID.fullmatch(subject or "")
        return f"sub-{patient[1] if patient else self._hidden(whose)}/ses-{study_uid}"

    def series(self, uid: str, number: int | None, modality: str | None) -> str:
        """Return the folder of a series within that of its study."""
        if self.naming == "uid":
            return uid
        code = modality if modality and _MODALITY.fullmatch(modality) else "XX"
        return f"{number or 0:03d}_{code}_{self._hidden(uid)}"

    def instance(self, uid: str, number: int | None) -> str:
        """Return the name of an instance's file, without its ending."""
        return uid if self.naming == "uid" else f"{number or 0:05d}_{self._hidden(uid)}"

    def _hidden(self, text: str) -> str:
        return hmac.digest(self.key, text.encode(), "sha256").hex()[:_DIGITS]
