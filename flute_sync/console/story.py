"""What is known of one study, read once for all who tell it: verbs and pages."""

from dataclasses import dataclass

from flute_sync.ledger import Ledger, LinkView, StudyView
from flute_sync.study import Study, StudyInstanceUID


@dataclass(frozen=True, slots=True)
class Story:
    """A study, what was judged of its links, and its series and instances."""

    study: StudyView
    links: LinkView
    known: Study


def story_of(ledger: Ledger, study_instance_uid: StudyInstanceUID) -> Story:
    """Read what is known of a study.

    Raises
    ------
    StudyUnknown
    """
    return Story(
        ledger.study_view(study_instance_uid),
        ledger.links.view(study_instance_uid),
        ledger.study(study_instance_uid),
    )
