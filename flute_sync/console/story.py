"""What is known of one study, read once for all who tell it: verbs and pages."""

from dataclasses import dataclass

from flute_sync.ledger import Ledger, LinkView, StudyView
from flute_sync.study import StudyInstanceUID


@dataclass(frozen=True, slots=True)
class Story:
    """A study, and what was judged of its links."""

    study: StudyView
    links: LinkView


def story_of(ledger: Ledger, study_instance_uid: StudyInstanceUID) -> Story:
    """Read what is known of a study.

    Raises
    ------
    StudyUnknown
    """
    study = ledger.study_view(study_instance_uid)
    return Story(study, ledger.links.view(study_instance_uid))
