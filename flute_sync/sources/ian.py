"""Instance Availability Notification as SCP: an archive says what can be retrieved from where.

A notification is a hint: the archive is read. It is answered once its notices are committed;
repeated ones change nothing.

References
----------
PS3.4 R (2026b), PS3.3 C.4.23 (2026b).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from pynetdicom import evt

from flute_sync.intake import Delivery, Intake, Notice, Noticed
from flute_sync.sources import dimse_tags as dimse
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dimse_dataset import chosen, items, read_elements, texts, uid
from flute_sync.sources.dimse_services import Operation, Request, Told
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.study import StudyInstanceUID

SOURCE: Final = "ian"
SOP_CLASS_UID: Final = "1.2.840.10008.5.1.4.33"
_UNAVAILABLE: Final = "UNAVAILABLE"
_AVAILABILITIES: Final = ("ONLINE", "NEARLINE", "OFFLINE", _UNAVAILABLE)


class InstanceAvailability:
    """Turns notifications into notices.

    Parameters
    ----------
    archives
        The archives of the site, each with the AE titles under which its images are retrieved.
    """

    name = SOURCE
    sop_class_uid = SOP_CLASS_UID

    def __init__(
        self,
        intake: Intake,
        archives: Mapping[str, frozenset[str]],
        header: HeaderSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._intake = intake
        self._archives = archives
        self._header = header
        self._clock = clock

    @property
    def operations(self) -> Mapping[evt.EventType, Operation]:
        """N-CREATE."""
        return {evt.EVT_N_CREATE: self.create}

    def create(self, request: Request) -> Told:
        """Commit what a notification says.

        Raises
        ------
        DataSetUnreadable, AttributeMissing, AttributeEmpty, AttributeInvalid
            When it is none.
        LedgerUnavailable, LedgerBusy
            When it is not committed; it may be by half, which repeating mends.
        """
        elements = read_elements(
            request.data,
            request.transfer_syntax,
            dimse.AVAILABILITY,
            dimse.AVAILABILITY_IN_ITEMS,
            self._header,
        )
        study = StudyInstanceUID(uid(elements, tags.STUDY_INSTANCE_UID))
        stated = availabilities(elements)
        at = self._clock()
        for archive, notice in notices(stated, self._archives).items():
            self._intake.deliver(
                Delivery(
                    source=SOURCE,
                    archive=archive,
                    at=at,
                    noticed=(Noticed(study, notice),),
                    calling_ae_title=request.calling_ae_title or None,
                )
            )
        return Told("availability was told", studies=1, instances=sum(stated.values()))


def availabilities(elements: Elements) -> dict[tuple[str, frozenset[str]], int]:
    """Count the instances of a notification by availability and Retrieve AE Titles.

    Raises
    ------
    AttributeMissing, AttributeEmpty, AttributeInvalid
        When a required attribute is not as it should be.
    """
    counts: dict[tuple[str, frozenset[str]], int] = {}
    for series in items(elements, tags.REFERENCED_SERIES_SEQUENCE):
        uid(series, tags.SERIES_INSTANCE_UID)
        for instance in items(series, tags.REFERENCED_SOP_SEQUENCE):
            uid(instance, dimse.REFERENCED_SOP_CLASS_UID)
            uid(instance, tags.REFERENCED_SOP_INSTANCE_UID)
            availability = chosen(instance, dimse.INSTANCE_AVAILABILITY, _AVAILABILITIES)
            key = availability, frozenset(texts(instance, dimse.RETRIEVE_AE_TITLE))
            counts[key] = counts.get(key, 0) + 1
    return counts


def notices(
    stated: Mapping[tuple[str, frozenset[str]], int], archives: Mapping[str, frozenset[str]]
) -> dict[str, Notice]:
    """Tell what each archive is to be asked for.

    An archive is meant by its own titles; titles of nobody mean all archives. A study is gone
    from an archive where all that is said of it is that nothing can be had.
    """
    gone: dict[str, bool] = {}
    for availability, titles in stated:
        meant = [name for name, own in archives.items() if own & titles] or archives
        for name in meant:
            gone[name] = gone.get(name, True) and availability == _UNAVAILABLE
    return {name: Notice.GONE if is_gone else Notice.CHANGED for name, is_gone in gone.items()}
