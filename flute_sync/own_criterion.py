"""A criterion of a site's own: a TOML file with FHIRPath expressions, and how it is read.

The expressions are evaluated on a Bundle of one patient with one index resource. A name in
``[define]`` stands for its text, one in ``[let]`` for its value on the Bundle, so that what is long
can be read; without names it runs in any engine.

References
----------
FHIRPath 2.0.0; FHIR R4 fhirpath.html; TOML 1.0.0; docs/criteria.md.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, ValidationError

from flute_sync.criterion_errors import CriterionMalformed
from flute_sync.settings import Settings

LARGEST_BYTES: Final = 64 * 1024
"""A file beyond this is refused."""
_LONGEST: Final = 256 * 1024  # characters of an expression, all names replaced
_DEEPEST: Final = 32
_KNOWN: Final = frozenset({"resource", "context", "rootResource", "ucum", "sct", "loinc"})
_TOKEN: Final = re.compile(
    r"""'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|//[^\n]*|/\*.*?\*/|(?P<dot>\.\s*)?%(?P<name>\w+)""",
    re.DOTALL,
)
_NAME: Final = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_Word = Annotated[str, Field(pattern=r"^[a-z]\w*$")]
_Expression = Annotated[str, Field(min_length=1)]


class OwnCriterion(Settings):
    """What the file says; expressions have all names replaced.

    ``index`` selects the resources that are judged, each of which gets a result; ``included`` and
    ``excluded`` are boolean; ``study`` selects the ImagingStudy that decided.
    """

    name: Annotated[str, Field(pattern=_NAME, max_length=64)]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,32}$")]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(min_length=1)]
    resources: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{1,63}$")], ...], Field(min_length=1)
    ]
    index: _Expression
    included: _Expression
    excluded: _Expression
    study: _Expression | None = None
    let: Mapping[_Word, _Expression] = {}
    define: Mapping[_Word, _Expression] = {}

    @property
    def expressions(self) -> dict[str, str]:
        """The expressions by name, as any engine evaluates them: with nothing but ``%resource``."""
        let = {name: f"%resource.select({text})" for name, text in self.let.items()}
        return self._with({**self.define, **let})

    @property
    def steps(self) -> dict[str, str]:
        """What is evaluated once on each Bundle, by the names under which it is used then."""
        found: dict[str, str] = {}
        for name, text in self.let.items():
            found[name] = _expanded(text, self.define, frozenset(found))
        return found

    @property
    def short(self) -> dict[str, str]:
        """The expressions by name, to be evaluated with the values of `steps`."""
        return self._with(self.define, frozenset(self.let))

    def _with(
        self, define: Mapping[str, str], kept: frozenset[str] = frozenset()
    ) -> dict[str, str]:
        stated = {
            "index": self.index,
            "included": self.included,
            "excluded": self.excluded,
            "study": self.study,
        }
        return {
            name: _expanded(text, define, kept) for name, text in stated.items() if text is not None
        }


def read(text: str, define: Mapping[str, str] | None = None) -> OwnCriterion:
    """Read a file.

    Parameters
    ----------
    define
        What stands for some names instead.

    Raises
    ------
    CriterionMalformed
        It is no criterion; says where and why.
    """
    try:
        found = OwnCriterion.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CriterionMalformed(f"it is not TOML: {error}") from None
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False, include_context=False)
        where = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in said)
        raise CriterionMalformed(where) from None
    found = found.model_copy(update={"define": {**found.define, **(define or {})}})
    for name in found.let:
        if name in found.define:
            raise CriterionMalformed(f"%{name} is in [let] and in [define]")
    for check in (found.steps, found.short, found.expressions):
        if sum(map(len, check.values())) > _LONGEST:
            raise CriterionMalformed("the expressions are too long")
    return found


def _expanded(
    text: str, define: Mapping[str, str], kept: frozenset[str], within: tuple[str, ...] = ()
) -> str:
    """Put the text of each name in its place: in parentheses, except where a path goes on."""
    parts, at, length = [], 0, len(text)
    for found in _TOKEN.finditer(text):
        name = found["name"]
        if name is None or name in _KNOWN:
            continue
        if name in kept:  # delimited, since it may be a word of FHIRPath
            parts += [text[at : found.start()], f"{'.' if found['dot'] else ''}%`{name}`"]
            at = found.end()
            continue
        if name not in define:
            raise CriterionMalformed(f"%{name} is not defined, or not yet")
        if name in within or len(within) >= _DEEPEST:
            raise CriterionMalformed(f"%{name} is defined by itself")
        inner = _expanded(define[name], define, kept, (*within, name))
        parts += [text[at : found.start()], f".{inner}" if found["dot"] else f"({inner})"]
        at = found.end()
        length += len(inner)
        if length > _LONGEST:
            raise CriterionMalformed("an expression is too long")
    return "".join([*parts, text[at:]])
