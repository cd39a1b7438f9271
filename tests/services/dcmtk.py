"""The command-line tools of dcmtk: DICOM software that is not ours."""

import os
import subprocess


def dcmtk(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one tool to its end, with what it printed; its exit code is left to the caller."""
    return subprocess.run(
        [tool, *arguments],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
