"""``python -m flute_sync.console``: the command where no script is installed."""

from flute_sync.console.cli import main

main()
