"""How tables are named, and the types and phrases that they share."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData, String

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

KEY: Final = BigInteger().with_variant(Integer, "sqlite")
UID: Final = String(64)
ORDERED_UID: Final = UID.with_variant(String(64, collation="C"), "postgresql")


def one_of(column: str, states: Iterable[StrEnum]) -> str:
    """Write that a column has one of these values."""
    return f"{column} IN ({', '.join(sorted(repr(state.value) for state in states))})"
