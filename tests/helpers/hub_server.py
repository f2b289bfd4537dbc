"""A model hub on this machine, as far as its client asks: files under commits, and the ways in which a hub can fail."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves `files` (name -> bytes) of any repository at COMMIT."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.cut_at: int | None = None
        """After how many bytes of a file's body the connection is cut; None for never."""
        self.gone = False
        """No request is answered any more: connections end at once, as when the network goes away."""
        self.refuse: int | None = None
        """Every request is answered with this status, and with its own Authorization header repeated wherever a message
        may be."""
        self.heard: list[str] = []
        """The Authorization headers that came."""
        self.published: dict[str, bytes] = {}
        """What was sent to it in commits."""
        self.url = ""


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def do_POST(self):
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if hub.refuse or not self.take(sent):
                self.answer(body=True)

        def take(self, sent: bytes) -> bool:
            """Answer a request to publish something: a new repository, how files are sent, and files in a commit."""
            answer: dict = {}
            if self.path == "/api/repos/create":
                answer = {"url": f"{hub.url}/{json.loads(sent).get('organization', 'me')}/{json.loads(sent)['name']}"}
            elif self.path == "/api/validate-yaml":  # the beginning of README.md
                answer = {"errors": [], "warnings": []}
            elif "/preupload/" in self.path:
                files = json.loads(sent)["files"]
                answer = {"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            elif "/commit/" in self.path:
                repo = "/".join(self.path.split("/")[3:5])
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        hub.published[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                answer = {"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.url}/{repo}/commit/{COMMIT}"}
            if answer:
                hub.heard.append(self.headers.get("Authorization", ""))
                self.say(200, json.dumps(answer).encode(), True, {"Content-Type": "application/json"})
            return bool(answer)

        def answer(self, body: bool):
            if hub.gone:
                self.close_connection = True
                self.connection.close()
                return
            token = self.headers.get("Authorization", "")
            hub.heard += [token] if token else []
            if hub.refuse:
                return self.say(
                    hub.refuse, f'{{"error": "you sent {token}"}}'.encode(), body, {"X-Error-Message": token}
                )
            if re.fullmatch(r"/api/models/[^/]+/[^/]+/auth-check", self.path):
                return self.say(200, b"{}", body, {})
            if about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", self.path.split("?")[0]):
                siblings = [{"rfilename": name, "size": len(content)} for name, content in hub.files.items()]
                content = json.dumps({"id": about[1], "sha": COMMIT, "siblings": siblings}).encode()
                return self.say(200, content, body, {"Content-Type": "application/json"})
            found = re.search(r"/resolve/[^/]+/(.+)$", self.path.split("?")[0])
            if not found or found[1] not in hub.files:
                return self.say(404, b"", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            content = hub.files[found[1]]
            headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if (start := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) and int(start[1]):
                headers["Content-Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
                return self.say(206, content[int(start[1]) :], body, headers)
            return self.say(200, content, body, headers)

        def say(self, status: int, content: bytes, body: bool, headers: dict[str, str]):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and hub.cut_at is not None and len(content) > hub.cut_at:
                self.wfile.write(content[: hub.cut_at])
                self.wfile.flush()
                hub.gone = True
                self.close_connection = True
                self.connection.shutdown(2)
            elif body:
                self.wfile.write(content)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass  # what was cut

    server = Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def etag(content: bytes) -> str:
    """SHA-256, as the hub names large files."""
    return hashlib.sha256(content).hexdigest()
