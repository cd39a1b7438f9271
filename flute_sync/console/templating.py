"""How templates become HTML: everything that a template is given is escaped."""

from jinja2 import BaseLoader, Environment, StrictUndefined


def environment(loader: BaseLoader) -> Environment:
    """Return what renders templates; a name that nobody gave is an error.

    Everything is escaped whatever the file is called.
    """
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
