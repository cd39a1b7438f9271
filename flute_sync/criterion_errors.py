"""What can go wrong with a criterion of a site's own."""

from flute_sync.errors import OperatorError


class CriterionUnreadable(OperatorError):
    """The file of a criterion cannot be read, or there is none of that name."""

    code = "CRITERION-UNREADABLE"
    hint = "Check the path, or the name of one in criteria.files."


class CriterionMalformed(OperatorError):
    """The file of a criterion is not what it should be."""

    code = "CRITERION-MALFORMED"
    hint = "Correct the place named; docs/criteria.md describes the format."


class CriterionFailed(OperatorError):
    """An expression of a criterion cannot be evaluated on the data of a patient."""

    code = "CRITERION-FAILED"
    hint = "Make the expression bear absent, repeated and malformed elements; no result was told."


class CriterionContradicts(OperatorError):
    """Both expressions of a criterion hold for a patient."""

    code = "CRITERION-CONTRADICTS"
    hint = "No patient can be included and excluded: correct the expressions."


class CriterionSlow(OperatorError):
    """An expression of a criterion takes too long on the data of one patient."""

    code = "CRITERION-SLOW"
    hint = "Simplify the expression; repeat(), descendants() and matches() may take very long."
