"""Runs the daemon's threads: if one dies the process stops; if the process dies nothing is lost.

Every part is a function of a `Pulse`: it beats while it is well and returns when told to stop.
The main thread watches the pulses, speaks to systemd and takes the signals.
"""

import contextlib
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType, TracebackType

from flute_sync.daemon.sd_notify import SystemdNotifier
from flute_sync.events import Event, fields

log = logging.getLogger(__name__)

TICK = timedelta(seconds=1)
STATUS_EVERY = timedelta(seconds=10)


class Pulse:
    """What a part is given: when to stop, and where to say that it is alive."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._beaten = time.monotonic()

    @property
    def stopping(self) -> bool:
        """Whether the part should end."""
        return self._stopping.is_set()

    def beat(self) -> None:
        """Say that the part is alive."""
        self._beaten = time.monotonic()

    def asked(self) -> bool:
        """Beat and tell whether to stop: what a long step asks between its requests."""
        self.beat()
        return self._stopping.is_set()

    def wait(self, duration: timedelta) -> bool:
        """Beat, then wait; return True as soon as the part should end."""
        left = duration.total_seconds()
        while left > 0 and not self._stopping.is_set():
            self.beat()
            self._stopping.wait(min(left, TICK.total_seconds()))
            left -= TICK.total_seconds()
        self.beat()
        return self._stopping.is_set()

    @property
    def silence(self) -> timedelta:
        """How long ago the last beat was."""
        return timedelta(seconds=time.monotonic() - self._beaten)


@dataclass(frozen=True)
class Part:
    """A named thread, and how long it may be silent before it counts as stuck.

    Steps that talk to other machines are bounded by those connections' time-outs;
    ``longest_silence`` must be above them.
    """

    name: str
    run: Callable[[Pulse], None]
    longest_silence: timedelta = timedelta(minutes=30)


@dataclass
class Supervisor:
    """Starts the parts, watches them, and ends them.

    Parameters
    ----------
    notifier
        Where systemd listens.
    describe
        One sentence about the state of the work, for ``STATUS=``.
    reload
        Reads the settings again (SIGHUP).
    watchdog
        How often systemd wants to hear from us; None: never.
    """

    notifier: SystemdNotifier
    describe: Callable[[], str]
    reload: Callable[[], None]
    watchdog: timedelta | None = None
    alive: Callable[[], bool] = lambda: True
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[tuple[Part, Pulse, threading.Thread]] = field(default_factory=list)
    _failed: threading.Event = field(default_factory=threading.Event)
    _reload_asked: bool = False
    _wake: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)

    def start(self, part: Part) -> None:
        """Start a part in a thread of its own."""
        pulse = Pulse(self._stopping)
        thread = threading.Thread(
            target=self._guard, args=(part, pulse), name=part.name, daemon=True
        )
        self._threads.append((part, pulse, thread))
        thread.start()

    def stop(self) -> None:
        """Ask every part to end; callable from any thread."""
        self._stopping.set()
        self._wake.put(None)

    def install_signals(self) -> None:
        """Take SIGTERM and SIGINT (stop; a second one kills) and SIGHUP (reload)."""
        signal.signal(signal.SIGTERM, self._on_stop_signal)
        signal.signal(signal.SIGINT, self._on_stop_signal)
        signal.signal(signal.SIGHUP, self._on_reload_signal)

    def watch(self) -> bool:
        """Watch until told to stop; return False when a part failed or is stuck."""
        period = min(TICK, self.watchdog) if self.watchdog else TICK
        since_status = timedelta.max
        while not self._stopping.is_set():
            if self._reload_asked:
                self._reload_asked = False
                self._reload()
            if not self._all_well():
                self._failed.set()
                break
            self.notifier.watchdog()
            if since_status >= STATUS_EVERY:
                self.notifier.status(self.describe())
                since_status = timedelta()
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=period.total_seconds())
            since_status += period
        return not self._failed.is_set()

    def join(self, grace: timedelta) -> bool:
        """Wait for the parts to end; return False when some did not within ``grace``."""
        self.stop()
        deadline = time.monotonic() + grace.total_seconds()
        for _, _, thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for _, _, thread in self._threads)

    def _guard(self, part: Part, pulse: Pulse) -> None:
        try:
            part.run(pulse)
        except Exception as error:  # noqa: BLE001  the boundary of a thread
            log.critical(
                "A part of the daemon died; the process stops.",
                extra=fields(Event.DAEMON_FAILED, listener=part.name, error=whereabouts(error)),
            )
            self._failed.set()
        if not self._stopping.is_set():
            self._failed.set()
            self.stop()

    def _all_well(self) -> bool:
        if not self.alive():
            log.critical("A listener or the ledger died.", extra=fields(Event.DAEMON_FAILED))
            return False
        for part, pulse, thread in self._threads:
            if not thread.is_alive() or pulse.silence > part.longest_silence:
                log.critical(
                    "A part of the daemon is stuck or gone; the process stops.",
                    extra=fields(Event.DAEMON_FAILED, listener=part.name),
                )
                return False
        return True

    def _reload(self) -> None:
        self.notifier.reloading()
        self.reload()
        self.notifier.ready(self.describe())

    def _on_stop_signal(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        self.stop()

    def _on_reload_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Of all that wakes a thread, only a SimpleQueue may be used where it may be interrupted.
        self._reload_asked = True
        self._wake.put(None)


def whereabouts(error: BaseException) -> str:
    """Say which error arose where, without its text: that could hold patient data."""
    frame: TracebackType | None = error.__traceback__
    place = ""
    while frame is not None:
        code = frame.tb_frame.f_code
        place = f"{code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}"
        frame = frame.tb_next
    return f"{type(error).__name__} at {place}"
