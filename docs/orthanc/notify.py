"""Tells flute-sync which studies this Orthanc stored, changed or deleted: ../webhook.md.

For Orthanc's Python plugin. In Orthanc's configuration::

    "PythonScript": "/etc/orthanc/notify.py",
    "FluteSync": {
        "Url": "http://127.0.0.1:8104/notify/study",
        "TokenFile": "/etc/orthanc/flute-sync.token",
        "Archive": "pacs"
    }

"Archive" is the archive's name in flute-sync's settings; without it every archive is asked.
"CaFile" names the certificate authorities to trust where they are not the system's. Nothing here
holds Orthanc up: its callback only puts down what happened, and a thread of our own tells it, again
and again until flute-sync has it or Orthanc ends.
"""

import http.client
import json
import queue
import ssl
import threading
import time
import urllib.error
import urllib.request

import orthanc

TIMEOUT = 10  # seconds
GATHER = 1  # seconds in which what happens to a study becomes one notice
PAUSE = 5  # seconds before flute-sync is tried again when it could not be told
AT_ONCE = 1000  # studies in one notice
PAGE = 500
REMEMBERED = 1_000_000  # ids of studies and series; of what is not remembered no deletion is told

FOLDERS = {orthanc.ResourceType.STUDY: "studies", orthanc.ResourceType.SERIES: "series"}
LEVELS = {orthanc.ResourceType.STUDY: "Study", orthanc.ResourceType.SERIES: "Series"}
KINDS = {
    orthanc.ChangeType.NEW_SERIES: "NewSeries",
    orthanc.ChangeType.STABLE_SERIES: "StableSeries",
    orthanc.ChangeType.STABLE_STUDY: "StableStudy",
    orthanc.ChangeType.DELETED: "Deleted",
}


class Teller(threading.Thread):
    """Tells flute-sync of what ``put`` hears of."""

    def __init__(self, settings):
        super().__init__(name="flute-sync", daemon=True)
        self._settings = settings
        self._events = queue.SimpleQueue()
        self._uid_of = {}  # Orthanc's id of a study or series -> StudyInstanceUID
        self._untold = {}  # StudyInstanceUID -> the latest change flute-sync does not know yet
        self._tls = ssl.create_default_context(cafile=settings.get("CaFile"))

    def put(self, kind, level, orthanc_id):
        """Put down a change; None as its kind ends the thread once all before it is told once."""
        self._events.put((kind, level, orthanc_id))

    def run(self):
        """Tell until the end."""
        self._remember_all()
        going, due = True, 0.0
        while going:
            idle = not self._untold
            going = self._take(None if idle else GATHER)
            if idle:
                due = time.monotonic() + GATHER
            if self._untold and (time.monotonic() >= due or not going):
                self._tell()
                due = time.monotonic() + PAUSE

    def _take(self, wait):
        """Take what was put down, all there is, waiting for the first; False at the end."""
        try:
            kind, level, orthanc_id = self._events.get(timeout=wait)
            while kind is not None:
                self._understand(kind, level, orthanc_id)
                kind, level, orthanc_id = self._events.get_nowait()
        except queue.Empty:
            return True
        return False

    def _understand(self, kind, level, orthanc_id):
        if kind == orthanc.ChangeType.DELETED:
            # Orthanc no longer knows what the id stood for, so it is kept beforehand.
            uid = self._uid_of.pop(orthanc_id, None)
        else:
            path = "" if level == orthanc.ResourceType.STUDY else "/study"
            study = self._get(f"/{FOLDERS[level]}/{orthanc_id}{path}")
            uid = self._remember(study) if study is not None else None
        if uid:
            self._untold.pop(uid, None)
            self._untold[uid] = {
                "ChangeType": KINDS[kind],
                "ResourceType": LEVELS[level],
                "StudyInstanceUID": uid,
                "archive": self._settings.get("Archive"),
            }

    def _remember_all(self):
        since, page = 0, [None] * PAGE
        while len(page) == PAGE:
            page = self._get(f"/studies?expand&since={since}&limit={PAGE}") or []
            since += PAGE
            for study in page:
                self._remember(study)

    def _remember(self, study):
        uid = study["MainDicomTags"].get("StudyInstanceUID")
        for orthanc_id in (study["ID"], *study["Series"]) if uid else ():
            if len(self._uid_of) < REMEMBERED:
                self._uid_of[orthanc_id] = uid
        return uid

    def _get(self, uri):
        try:
            return json.loads(orthanc.RestApiGet(uri))
        except orthanc.OrthancException:
            return None  # deleted meanwhile

    def _tell(self):
        while self._untold:
            changes = list(self._untold.values())[:AT_ONCE]
            try:
                self._post(changes)
            except (OSError, ValueError, http.client.HTTPException) as error:
                orthanc.LogWarning(f"flute-sync could not be told: {_reason(error)}")
                return
            for change in changes:
                del self._untold[change["StudyInstanceUID"]]

    def _post(self, changes):
        with open(self._settings["TokenFile"], encoding="ascii") as file:
            token = file.readline().strip()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        body = json.dumps(changes).encode()
        url = self._settings["Url"]
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
        with urllib.request.urlopen(  # noqa: S310 - the address is the administrator's own
            request, timeout=TIMEOUT, context=self._tls
        ) as answer:
            answer.read()


def _reason(error):
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    # The text of a ValueError may hold the token.
    return str(error) if isinstance(error, OSError) else type(error).__name__


def _on_change(kind, level, orthanc_id):
    if kind == orthanc.ChangeType.ORTHANC_STARTED:
        teller.start()
    elif kind == orthanc.ChangeType.ORTHANC_STOPPED:
        teller.put(None, None, None)
        teller.join(TIMEOUT + PAUSE)
    elif kind in KINDS and level in FOLDERS:
        teller.put(kind, level, orthanc_id)


_settings = json.loads(orthanc.GetConfiguration()).get("FluteSync")
if _settings:
    teller = Teller(_settings)
    orthanc.RegisterOnChangeCallback(_on_change)
else:
    orthanc.LogError("notify.py: Orthanc's configuration has no FluteSync")
