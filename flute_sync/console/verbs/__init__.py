"""The verbs of the ``flute-sync`` command, one module each."""
