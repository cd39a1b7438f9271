"""How long an import waits for a list that fails."""

import pytest

from flute_sync.archive_errors import ArchiveServerError, ArchiveUnavailable
from flute_sync.daemon.importing import TRIES, Patience
from flute_sync.sources.listing import Page


def test_a_list_that_never_came_is_not_waited_for() -> None:
    assert Patience().is_over(ArchiveUnavailable())


@pytest.mark.parametrize("error", [ArchiveServerError(), ArchiveUnavailable()])
def test_a_page_that_always_fails_ends_it_and_an_archive_that_is_down_does_not(
    error: ArchiveServerError | ArchiveUnavailable,
) -> None:
    """Each attempt begins with a page that is known already."""
    patience = Patience()
    patience.got(Page((), "2"), "1")
    for _ in range(TRIES - 1):
        assert not patience.is_over(error)
        patience.got(Page((), "2"), "2")
    assert patience.is_over(error) is isinstance(error, ArchiveServerError)


def test_what_goes_on_may_fail_again() -> None:
    patience = Patience()
    for number in range(3 * TRIES):
        patience.got(Page((), str(number + 1)), str(number))
        assert not patience.is_over(ArchiveServerError())
