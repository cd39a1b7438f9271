"""Write the golden files anew: ``python -m tests.golden --write``."""

import argparse

from tests.golden import golden_file, produced
from tests.studies import golden_cases

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--write", action="store_true", required=True)
parser.parse_args()
for name in golden_cases():
    golden_file(name).write_bytes(produced(name))
