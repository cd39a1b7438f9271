"""A DICOM change feed as Microsoft documents it: versions 1 and 2, gaps and late entries."""

from datetime import UTC, datetime, timedelta

import httpx
import orjson

BEGAN = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)


class ChangeFeed:
    """Answers ``/changefeed`` and ``/changefeed/latest``; ``asked`` holds what was asked for."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.entries: list[dict] = []
        self.asked: list[str] = []
        self.status = 200
        self.sequence = 0
        self.now = BEGAN

    def say(self, study: str, action: str = "create", *, sequence: int | None = None, **more):
        """Log a change of an instance; every second one."""
        self.sequence = sequence if sequence is not None else self.sequence + 1
        self.now += timedelta(seconds=1)
        entry = {
            "Sequence": self.sequence,
            "StudyInstanceUid": study,
            "SeriesInstanceUid": f"{study}.1",
            "SopInstanceUid": f"{study}.1.{self.sequence}",
            "Action": action,
            "Timestamp": f"{self.now:%Y-%m-%dT%H:%M:%S}.4834001+00:00",
            "State": "deleted" if action == "delete" else "current",
        }
        self.entries.append(entry | more)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/dicom")
        self.asked.append(f"{path}?{request.url.query.decode()}")
        assert request.url.params["includeMetadata"] == "false"
        assert request.headers["accept"] == "application/json"
        if self.status != 200:
            return httpx.Response(self.status)
        if path.endswith("/latest"):
            newest = max(self.entries, key=self._order, default=None)
            return httpx.Response(200, json=newest) if newest else httpx.Response(204)
        found = sorted(self.entries, key=self._order)
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        if not 1 <= limit <= (100 if self.version == 1 else 200) or offset < 0:
            return httpx.Response(400)
        if self.version == 1:
            page = [one for one in found if offset < one["Sequence"] <= offset + limit]
        else:
            since = request.url.params.get("startTime", "")
            assert since == "" or since.endswith("Z")  # a zone is mandatory
            found = [one for one in found if one["Timestamp"] >= since.removesuffix("Z")]
            page = found[offset : offset + limit]
        return httpx.Response(200, content=orjson.dumps(page))

    def _order(self, entry: dict) -> tuple:
        if self.version == 1:
            return (entry["Sequence"],)
        return entry["Timestamp"], entry["Sequence"]
