import importlib
import pkgutil
from collections.abc import Iterator

import flute_sync
from flute_sync.error_tree import every_error
from flute_sync.errors import FluteSyncError, OperatorError, PermanentError, TransientError


def test_codes_are_unique_and_every_leaf_says_what_to_do() -> None:
    errors = list(every_error())
    assert len({error.code for error in errors}) == len(errors)
    for error in errors:
        assert error.hint
        assert error.message()
        assert error in {FluteSyncError} or issubclass(
            error, TransientError | PermanentError | OperatorError
        )


def test_no_error_grows_outside_the_tree() -> None:
    for module in pkgutil.walk_packages(flute_sync.__path__, "flute_sync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = {one for one in grown(FluteSyncError) if one.__module__.startswith("flute_sync.")}
    assert ours == set(every_error())


def grown(error: type[FluteSyncError]) -> Iterator[type[FluteSyncError]]:
    yield error
    for one in error.__subclasses__():
        yield from grown(one)
