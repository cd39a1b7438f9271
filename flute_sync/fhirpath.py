"""FHIRPath by a library, made strict: what it does not understand is refused, and nothing is said
of the data in an error.

References
----------
FHIRPath 2.0.0; FHIR R4 fhirpath.html.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from antlr4.tree.Tree import ParseTreeWalker
from fhirpathpy import apply_parsed_path
from fhirpathpy.engine.invocations import invocation_registry
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.models import models
from fhirpathpy.parser.ASTPathListener import ASTPathListener
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from flute_sync.criterion_errors import CriterionFailed, CriterionMalformed
from flute_sync.errors import FluteSyncError

Resource = Mapping[str, Any]
FUNCTIONS: Final = frozenset(invocation_registry)
"""The functions that can be called."""
_OPTIONS: Final = {"returnRawData": True}
_MODEL: Final = models["r4"]
_evaluate: Callable[..., list[Any]] = apply_parsed_path


class Expression:
    """An expression of FHIRPath, ready to be evaluated.

    Parameters
    ----------
    name
        What it is called in errors.

    Raises
    ------
    CriterionMalformed
        It is none; says where and why.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        try:
            self._tree = _parsed(text, _Refuses(name))
            unknown = sorted(_functions(self._tree) - FUNCTIONS)
        except RecursionError:
            raise CriterionMalformed(f"`{name}` is nested too deeply") from None
        if unknown:
            raise CriterionMalformed(f"`{name}` calls {unknown[0]}(), which is not known")

    def __call__(self, resource: Resource, values: Mapping[str, list[Any]]) -> list[Any]:
        """Evaluate it.

        Parameters
        ----------
        values
            What ``%names`` stand for, besides ``%resource`` and ``%context``.

        Returns what the library calls nodes, for `plain`, or as values of other expressions.

        Raises
        ------
        CriterionFailed
            It cannot be, on these data.
        """
        try:
            known = {"resource": resource, **values}
            return _evaluate(resource, self._tree, known, _MODEL, _OPTIONS)
        except FluteSyncError:
            raise
        except Exception as error:  # noqa: BLE001  the library raises this very class
            raise CriterionFailed(f"`{self._name}`: {type(error).__name__}") from None


def plain(found: list[Any]) -> list[Any]:
    """Return what was found as it is in the resource, the very objects."""
    return [one.data if isinstance(one, ResourceNode) else one for one in found]


def _parsed(text: str, refuses: "_Refuses") -> Any:
    """Parse to the very end: the library's own way passes over what it does not understand."""
    lexer = FHIRPathLexer(InputStream(text))
    parser = FHIRPathParser(CommonTokenStream(lexer))
    for one in (lexer, parser):
        one.removeErrorListeners()
        one.addErrorListener(refuses)
    listener = ASTPathListener()  # type: ignore[no-untyped-call]
    tree = parser.entireExpression()  # type: ignore[no-untyped-call]
    ParseTreeWalker().walk(listener, tree)
    (whole,) = listener.parentStack[0]["children"]
    return whole


def _functions(node: Mapping[str, Any]) -> set[str]:
    inner = node.get("children", [])
    found = {name for one in inner for name in _functions(one)}
    return found | ({inner[0]["text"]} if node["type"] == "Functn" else set())


class _Refuses(ErrorListener):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self._name = name

    def syntaxError(  # noqa: N802  as the library calls it
        self, _by: Any, _symbol: Any, line: int, column: int, message: str, _error: Any
    ) -> None:
        raise CriterionMalformed(f"`{self._name}`, line {line}, character {column}: {message}")
