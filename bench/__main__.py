"""All benches in one run, as one table: ``python -m bench [NAME...]``; ``make bench``."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bench import (
    c_store,
    criteria,
    fetch,
    header,
    import_archive,
    ledger,
    link_sweep,
    links,
    mapping,
    resident,
    stow_rs,
    sync,
    watch,
)
from bench.figures import Figure, table

BENCHES: Final[Mapping[str, Callable[[], Iterator[Figure]]]] = {
    "header": header.figures,
    "mapping": mapping.figures,
    "links": links.figures,
    "criteria": criteria.figures,
    "ledger": ledger.figures,
    "stow_rs": stow_rs.figures,
    "c_store": c_store.figures,
    "resident": resident.figures,
    "watch": watch.figures,
    "sync": sync.figures,
    "link_sweep": link_sweep.figures,
    "import": import_archive.figures,
    "fetch": fetch.figures,
}


def main() -> None:
    """Run the benches named, or all, and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    names = parser.parse_args().names or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"no bench is named {unknown[0]}; there are {', '.join(BENCHES)}")
    found: list[Figure] = []
    try:
        for name in names:
            for figure in BENCHES[name]():
                found.append(figure)  # noqa: PERF402  what was measured before a fault is printed
    finally:
        print(table(found))


if __name__ == "__main__":
    main()
