"""Run one command that ends when whoever started it ends, kill -9 included.

The starter keeps the write end of this process's standard input and never writes: the kernel
closes it whatever becomes of the starter. PR_SET_PDEATHSIG would not do, since it follows the
thread that forked, and is cleared when the command changes its user.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

GRACE_SECONDS = 10


def main(command: list[str]) -> int:
    """Start `command`, print its process id, and wait for its end or the starter's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0)
    print(child.pid, flush=True)
    ended = os.pidfd_open(child.pid)
    readable, _, _ = select.select([sys.stdin, ended], [], [])
    if ended not in readable:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
    code = child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
