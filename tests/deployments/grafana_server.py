"""A server that keeps folders and dashboards as Grafana's HTTP API does: uids, versions, conflicts, tokens.

https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/ and …/folder/.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "glsa_of-a-test"


@dataclass
class Grafana:
    """What the server keeps; every stored dashboard counts its `version`."""

    url: str
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    folder_of: dict[str, str] = field(default_factory=dict)
    fails: bool = False

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match (method, *path.strip("/").split("/")):
            case _ if self.fails:
                return 500, {"message": "database is locked"}
            case ("GET", "api", "folders", uid):
                if uid not in self.folders:
                    return 404, {"message": "folder not found"}
                return 200, {"uid": uid, "title": self.folders[uid]}
            case ("POST", "api", "folders"):
                if body["uid"] in self.folders:
                    return 409, {"message": "a folder with the same uid exists"}
                self.folders[body["uid"]] = body["title"]
                return 200, {"uid": body["uid"], "title": body["title"]}
            case ("GET", "api", "dashboards", "uid", uid):
                if uid not in self.dashboards:
                    return 404, {"message": "Dashboard not found"}
                return 200, {"dashboard": self.dashboards[uid], "meta": {"folderUid": self.folder_of[uid]}}
            case ("POST", "api", "dashboards", "db"):
                return self._store(body)
            case _:
                return 404, {"message": "Not found"}

    def _store(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = body["dashboard"]
        uid = wanted["uid"]
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if uid in self.dashboards and not body.get("overwrite"):
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        held = self.dashboards.get(uid, {"id": len(self.dashboards) + 1, "version": 0})
        self.dashboards[uid] = {**wanted, "id": held["id"], "version": held["version"] + 1}
        self.folder_of[uid] = body["folderUid"]
        return 200, {"uid": uid, "status": "success", "version": self.dashboards[uid]["version"]}


@contextmanager
def run_grafana(sub_path: str = "") -> Iterator[Grafana]:
    """A Grafana on a free port of this machine, below `sub_path`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            if not self.path.startswith(f"{sub_path}/api/"):
                self._send(404, b"<html>no such page</html>")
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, json.dumps({"message": "Invalid API key"}).encode())
            else:
                status, answer = grafana.answer(self.command, self.path.removeprefix(sub_path), body)
                self._send(status, json.dumps(answer).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        grafana = Grafana(f"http://127.0.0.1:{server.server_port}{sub_path}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield grafana
        finally:
            server.shutdown()
