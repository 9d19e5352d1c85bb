"""The pod's side of the protocol with the server: a token becomes a grant, a grant becomes signed URLs.

Every call raises web.Transient or web.Refused.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from stoker.runtime import wire
from stoker.runtime.transport import Absent, Content, Part, Sealed
from stoker.runtime.web import Refused, Web


class Server:
    """The server with the grant of one rank. The token file is read again for every grant: the kubelet renews it."""

    def __init__(self, url: str, token_file: str, web: Optional[Web] = None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self.web = web or Web()
        self._granted: Optional[Dict[str, Any]] = None
        self._lock = threading.Lock()

    def grant(self, renew: bool = False) -> Dict[str, Any]:
        """The server's answer to /v1/grant: `job`, `attempt`, `rank`, and the grant itself. Asked for once."""
        with self._lock:
            if self._granted is None or renew:
                self._granted = self._ask()
            return self._granted

    def _ask(self) -> Dict[str, Any]:
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read().strip()
        except OSError as error:
            raise Refused("the pod's token cannot be read: %s" % error, 0, "TokenMissing") from None
        headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        body = wire.json_bytes({"protocol": wire.GRANT_PROTOCOL})
        answer = wire.json_object(self.web.request("POST", self._url + "/v1/grant", headers, body).body)
        for name, kind in (("grant", str), ("job", dict), ("attempt", int), ("rank", int)):
            if not isinstance(answer.get(name), kind):
                raise Refused("POST %s/v1/grant: the answer has no %s" % (self._url, name), 0, "BadAnswer")
        return answer

    def call(self, path: str, document: Mapping[str, Any]) -> Dict[str, Any]:
        """POST under the grant; a grant that has expired is renewed once."""
        for renew in (False, True):
            grant = self.grant(renew)["grant"]
            try:
                answer = self.web.post(self._url + path, {"grant": grant, **document})
                return answer if isinstance(answer, dict) else {}
            except Refused as error:
                if error.status != 401 or renew:
                    raise
        raise AssertionError("unreachable")

    def read_urls(self, keys: Sequence[str]) -> Dict[str, str]:
        """Signed URLs for reading these keys of the workspace."""
        urls: Dict[str, str] = {}
        for start in range(0, len(keys), wire.MAX_SIGNED_OBJECTS):
            asked = list(keys[start : start + wire.MAX_SIGNED_OBJECTS])
            urls.update(self.call("/v1/reads", {"keys": asked})["urls"])
        return urls


class ServerTransport:
    """Stores a rank's files by URLs that the server signs, one request for many files."""

    single_bytes = wire.SINGLE_PUT_BYTES
    part_bytes = wire.SINGLE_PUT_BYTES

    def __init__(self, server: Server) -> None:
        self._server = server

    def put(
        self, files: Sequence[wire.StoredFile], content: Callable[[wire.StoredFile], Content]
    ) -> Iterator[wire.StoredFile]:
        answer = self._server.call("/v1/writes", {"objects": [file.document() for file in files]})
        signed = {entry["path"]: entry for entry in answer["objects"]}
        for file in files:
            self._put(file, signed[file.path], content(file))
            yield file

    def _put(self, file: wire.StoredFile, entry: Dict[str, Any], content: Content) -> None:
        """Send one file as the server's entry for it says. A URL works once: 412 says that the object changed since
        it was signed, as it has after our own PUT whose answer was lost; 404 that the upload in parts by which it is
        replaced is no more. The server's next entry then says `stored`."""
        for last_try in (False, True):
            if entry.get("stored"):
                return
            try:
                answer = self._server.web.request("PUT", entry["url"], entry.get("headers"), content, file.size)
                if "uploadId" in entry:
                    part = Part(1, 0, file.size, file.sha256)
                    self.complete(file.path, entry["uploadId"], [part], [answer.headers.get("etag", "")])
                return
            except Refused as error:
                if error.status not in (404, 412) or last_try:
                    raise
            entry = self._server.call("/v1/writes", {"objects": [file.document()]})["objects"][0]

    def begin(self, path: str) -> str:
        return str(self._server.call("/v1/multipart", {"action": "create", "path": path})["uploadId"])

    def put_part(self, path: str, upload: str, part: Part, content: Content) -> str:
        asked = {"number": part.number, "size": part.size, "sha256": part.sha256}
        answer = self._server.call(
            "/v1/multipart", {"action": "sign", "path": path, "uploadId": upload, "parts": [asked]}
        )
        signed = answer["parts"][0]
        stored = self._server.web.request("PUT", signed["url"], signed.get("headers"), content, part.size)
        return stored.headers.get("etag", "")

    def complete(self, path: str, upload: str, parts: Sequence[Part], etags: Sequence[str]) -> None:
        listed = [
            {"number": part.number, "etag": etags[index], "sha256": part.sha256} for index, part in enumerate(parts)
        ]
        self._server.call("/v1/multipart", {"action": "complete", "path": path, "uploadId": upload, "parts": listed})

    def abort(self, path: str, upload: str) -> None:
        self._server.call("/v1/multipart", {"action": "abort", "path": path, "uploadId": upload})

    def seal(
        self,
        exit: Optional[Dict[str, Any]],
        files: Sequence[wire.StoredFile],
        missing: List[Dict[str, Any]],
        skipped: List[Dict[str, str]],
    ) -> Sealed:
        asked = {
            "exit": exit,
            "files": [file.document() for file in files],
            "missing": missing,
            "skipped": skipped,
        }
        try:
            seal, ours = self._server.call("/v1/seal", asked)["seal"], True
        except Refused as error:
            answer = error.answer if isinstance(error.answer, dict) else {}
            if error.status == 422 and answer.get("absent"):
                raise Absent(answer["absent"]) from None
            if error.status != 409 or not isinstance(answer.get("seal"), dict):
                raise
            seal, ours = answer["seal"], False
        return Sealed(bool(seal.get("complete")), seal.get("reason"), seal.get("message") or "", ours)
