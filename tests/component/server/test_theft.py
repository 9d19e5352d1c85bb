"""What a thief gets out of a signed URL, a grant or a token that was given to somebody else, at a real S3 server.

Each line of the tables is one attack. It must be refused, and the whole store must hold what it held before. What a
stolen grant does give until its rank is sealed is that rank's own prefix, and nothing else of the store.
"""

import base64
import hashlib
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import msgspec
import pytest

from stoker.server.grants import MARGIN_SECONDS, Grant, Keys, sign
from stoker.server.keys import SECRET
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from tests.component.server.test_ranks import KEY, seal, write
from tests.component.server.test_real_store import AtS3
from tests.component.storage.conftest import s3 as s3
from tests.support.serving import SYSTEM, Answer, job_record, listed, serving

pytestmark = pytest.mark.lab

MODEL, OTHER = b"the weights, all of them", b"what the thief prefers.."
TEAM_UID, EVIL_UID = "0123abcd-2222-4222-8333-444455556666", "0123abcd-3333-4222-8333-444455556666"
MINE = layout.rank_prefix(KEY, 1, 0)
VICTIM = "victim"


def base64_sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


class Scene(AtS3):
    """Job iris of namespace team has two attempts of two ranks, job `victim` is of the same namespace, and namespace
    `evil` has a job of its own. The thief holds what rank 0 of attempt 1 of iris was given."""

    async def prepare(self) -> None:
        for attempt in (1, 2):
            for rank in (0, 1):
                self.kube.run(attempt=attempt, ranks=2, rank=rank, token=f"pod-{attempt}-{rank}")
        self.kube.run(name=VICTIM, uid=TEAM_UID, token="pod-victim")
        self.kube.run("evil", uid=EVIL_UID, token="pod-evil")
        for namespace in ("team", "evil"):
            for account in ("stoker-editor", "stoker-viewer", "default"):
                self.kube.account(f"{account} of {namespace}", namespace, account)
        for record in (
            job_record(instanceCount=2),
            job_record(name=VICTIM, uid=TEAM_UID),
            job_record("evil", uid=EVIL_UID),
        ):
            store = self.place(f"{self.settings.storage_url}/{record['namespace']}").store
            await records.write_job(store, record)  # type: ignore[arg-type]

    async def everything(self) -> dict[str, tuple[int, str, float]]:
        """Every object of every namespace: size, etag, when it was last written."""
        whole: ObjectStore = open_store(self.settings.storage_url, self.settings.options)
        return {stored.key: (stored.size, stored.etag, stored.modified) async for stored in whole.list("")}

    def keys(self) -> Keys:
        held = self.kube.objects[f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"]["data"]["current"]
        return Keys(base64.b64decode(held))


@pytest.fixture
async def scene(tmp_path: Path, s3: tuple[str, StoreOptions]) -> AsyncIterator[Scene]:
    url, options = s3
    scene = Scene(tmp_path, storage_url=f"{url}/{tmp_path.name}", options=options)
    with serving(scene):
        await scene.prepare()
        yield scene


# -- a signed URL


@dataclass(frozen=True)
class Sent:
    """A request as the thief sends it. headers: all of them."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def at(self, old: str, new: str) -> "Sent":
        assert old in self.url
        return replace(self, url=self.url.replace(old, new))

    def saying(self, **headers: str | None) -> "Sent":
        """With these headers in place of its own; None takes one away."""
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in named}
        return replace(self, headers={**kept, **{name: value for name, value in named.items() if value is not None}})

    def having(self, body: bytes) -> "Sent":
        """With another body and its true length."""
        return replace(self.saying(content_length=str(len(body))), body=body)


def send(sent: Sent) -> Answer:
    parts = urlsplit(sent.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.putrequest(sent.method, f"{parts.path}?{parts.query}", skip_accept_encoding=True)
        for name, value in sent.headers.items():
            connection.putheader(name, value)
        connection.endheaders(sent.body)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def granted_put(scene: Scene, path: str = "outputs/x", content: bytes = MODEL, token: str = "pod-1-0") -> Sent:
    answer = write(scene, scene.granted(token), listed(path, content))
    assert 200 == answer.status, answer.body
    entry = answer.json["objects"][0]
    return Sent("PUT", entry["url"], dict(entry["headers"]), content)


Twist = Callable[[Sent], Sent]
URL_ATTACKS: dict[str, Twist] = {
    "another file of the rank": lambda sent: sent.at("outputs/x", "outputs/y"),
    "the rank's seal": lambda sent: sent.at("outputs/x", "seal.json"),
    "another rank": lambda sent: sent.at("attempts/1/0", "attempts/1/1"),
    "another attempt": lambda sent: sent.at("attempts/1/0", "attempts/2/0"),
    "another job": lambda sent: sent.at(KEY, f"{VICTIM}-{TEAM_UID[:8]}"),
    "another namespace": lambda sent: sent.at("/team/", "/evil/"),
    "the job's record": lambda sent: sent.at("attempts/1/0/outputs/x", "job.json"),
    "the job's result": lambda sent: sent.at("attempts/1/0/outputs/x", "result.json"),
    "a snapshot": lambda sent: sent.at(f"{MINE}outputs/x", f"snapshots/sha256/{'a' * 64}.zip"),
    "up and out of the rank": lambda sent: sent.at("outputs/x", "outputs/../../1/outputs/x"),
    "a bigger body": lambda sent: sent.having(MODEL + b"!"),
    "a smaller body": lambda sent: sent.having(MODEL[:-1]),
    "an empty body": lambda sent: sent.having(b""),
    "a bigger body in chunks": lambda sent: replace(
        sent.saying(content_length=None, transfer_encoding="chunked"), body=b"19\r\n" + MODEL + b"!\r\n0\r\n\r\n"
    ),
    "other bytes of this length": lambda sent: sent.having(OTHER),
    "other bytes with their digest": lambda sent: sent.having(OTHER).saying(x_amz_checksum_sha256=base64_sha256(OTHER)),
    "other bytes and no digest": lambda sent: sent.having(OTHER).saying(x_amz_checksum_sha256=None),
    "without its condition": lambda sent: sent.saying(if_none_match=None),
    "another condition": lambda sent: sent.saying(if_none_match='"etag"'),
    "a copy of a stranger's object": lambda sent: sent.saying(x_amz_copy_source=f"/stoker/evil/{KEY}/job.json"),
    "open to everybody": lambda sent: sent.saying(x_amz_acl="public-read"),
    "a longer life": lambda sent: sent.at("X-Amz-Expires=900", "X-Amz-Expires=604800"),
    "a later date": lambda sent: sent.at("X-Amz-Date=20", "X-Amz-Date=21"),
    "no signature": lambda sent: replace(sent, url=sent.url.split("?")[0] + "?x=1"),
    "another signature": lambda sent: sent.at("X-Amz-Signature=", "X-Amz-Signature=0"),
    "as a part of an upload": lambda sent: replace(sent, url=sent.url + "&partNumber=1&uploadId=x"),
    "as tags": lambda sent: replace(sent, url=sent.url + "&tagging"),
    "read instead": lambda sent: Sent("GET", sent.url),
    "looked at instead": lambda sent: Sent("HEAD", sent.url),
    "removed instead": lambda sent: Sent("DELETE", sent.url),
    "an upload in parts instead": lambda sent: Sent("POST", sent.url + "&uploads", {"Content-Length": "0"}),
    "the bucket's list instead": lambda sent: Sent("GET", sent.at(f"{MINE}outputs/x", "").url),
}


@pytest.mark.parametrize("attack", URL_ATTACKS.values(), ids=URL_ATTACKS)
async def test_a_stolen_url_does_one_thing_and_no_other(scene: Scene, attack: Twist) -> None:
    before, url = await scene.everything(), granted_put(scene)

    answer = send(attack(url))

    assert answer.status in (400, 403), answer.body
    assert before == await scene.everything()
    assert 200 == send(url).status, "the URL itself was good"


@pytest.mark.parametrize(("minutes", "expected"), [(14, 200), (16, 403)])
async def test_a_url_ends_after_a_quarter_of_an_hour(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, minutes: int, expected: int
) -> None:
    """Signed so long ago, as far as the store can tell."""
    granted_put(scene)
    then = datetime.now(UTC) - timedelta(minutes=minutes)
    with monkeypatch.context() as patched:
        patched.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: then)
        url = granted_put(scene)

    assert expected == send(url).status


# -- a part's URL


async def test_a_parts_url_adds_this_part_to_this_upload(scene: Scene) -> None:
    piece = b"p" * 10_000
    grant = scene.granted("pod-1-0")
    mine, other = (parts(scene, grant, path, "create").json["uploadId"] for path in ("outputs/big", "outputs/other"))
    asked = {"number": 1, "size": len(piece), "sha256": hashlib.sha256(piece).hexdigest()}
    entry = parts(scene, grant, "outputs/big", "sign", uploadId=mine, parts=[asked]).json["parts"][0]
    sent = Sent("PUT", entry["url"], dict(entry["headers"]), piece)

    for twisted in (
        sent.at("partNumber=1", "partNumber=2"),
        sent.at(mine, other),
        sent.at("outputs/big", "outputs/other"),
        sent.having(piece + b"!"),
        sent.having(b"q" * len(piece)),
        replace(sent, url=sent.url.replace("partNumber=1&", "")),
    ):
        assert send(twisted).status in (400, 403, 405), twisted.url
    assert 200 == send(sent).status


def parts(scene: Scene, grant: str, path: str, action: str, **more: Any) -> Answer:
    return scene.call("POST", "/v1/multipart", {"grant": grant, "action": action, "path": path, **more})


# -- a replay


@dataclass(frozen=True)
class Loot:
    """What was given to a rank while it ran, kept by the thief until the rank is sealed. used: URLs that stored what
    the seal lists; unused: one of an older content of the same file, and one of a file that was never stored."""

    grant: str
    used: Sent
    unused: Sent
    late: Sent
    part: Sent
    upload: str
    finished: list[dict[str, Any]]


def completed(scene: Scene) -> Loot:
    """Run rank 0 to its seal."""
    grant = scene.granted("pod-1-0")
    unused, late = granted_put(scene, content=OTHER), granted_put(scene, "outputs/late")
    used = granted_put(scene)
    assert 200 == send(used).status
    piece = b"p" * 10_000
    upload = parts(scene, grant, "outputs/big", "create").json["uploadId"]
    asked = {"number": 1, "size": len(piece), "sha256": hashlib.sha256(piece).hexdigest()}
    entry = parts(scene, grant, "outputs/big", "sign", uploadId=upload, parts=[asked]).json["parts"][0]
    part = Sent("PUT", entry["url"], dict(entry["headers"]), piece)
    finished = [{"number": 1, "etag": send(part).headers["etag"], "sha256": asked["sha256"]}]
    assert 200 == parts(scene, grant, "outputs/big", "complete", uploadId=upload, parts=finished).status
    answer = seal(scene, grant, listed("outputs/x", MODEL), listed("outputs/big", piece))
    assert 200 == answer.status, answer.body
    return Loot(grant, used, unused, late, part, upload, finished)


Replay = Callable[[Scene, Loot], Answer]
REPLAYS: dict[str, tuple[Replay, int]] = {
    "the URL again": (lambda scene, loot: send(loot.used), 412),
    "an older content's URL": (lambda scene, loot: send(loot.unused), 412),
    "a part's URL": (lambda scene, loot: send(loot.part), 404),
    "the end of the upload": (
        lambda scene, loot: parts(
            scene, loot.grant, "outputs/big", "complete", uploadId=loot.upload, parts=loot.finished
        ),
        409,
    ),
    "the upload's abort": (
        lambda scene, loot: parts(scene, loot.grant, "outputs/big", "abort", uploadId=loot.upload),
        200,
    ),
    "a new upload": (lambda scene, loot: parts(scene, loot.grant, "outputs/big", "create"), 409),
    "the request for a URL": (lambda scene, loot: write(scene, loot.grant, listed("outputs/x", OTHER)), 409),
    "another seal": (lambda scene, loot: seal(scene, loot.grant, listed("outputs/x", MODEL)), 409),
    "the token": (lambda scene, loot: scene.grant("pod-1-0"), 409),
}


@pytest.mark.parametrize(("replay", "expected"), REPLAYS.values(), ids=REPLAYS)
async def test_a_replay_changes_no_object_of_a_sealed_rank(scene: Scene, replay: Replay, expected: int) -> None:
    loot = completed(scene)
    before = await scene.everything()

    answer = replay(scene, loot)

    assert expected == answer.status, answer.body
    assert before == await scene.everything()


async def test_a_url_from_before_the_seal_adds_at_most_what_no_seal_lists(scene: Scene) -> None:
    """The one thing that is left to a thief, for a quarter of an hour: the seal and all it lists stay as they are."""
    loot = completed(scene)
    before = await scene.everything()

    send(loot.late)

    after = await scene.everything()
    assert {f"team/{MINE}outputs/late"} == set(after) - set(before)
    assert before == {key: after[key] for key in before}
    seal_there = await records.read_seal(scene.real, KEY, 1, 0)
    assert seal_there is not None
    assert ["outputs/big", "outputs/x"] == [file["path"] for file in seal_there["files"]]


async def test_a_kept_url_to_replace_a_file_replaces_nothing_by_itself(scene: Scene) -> None:
    """Signed for the very content that is sealed then, and never used before."""
    grant = scene.granted("pod-1-0")
    send(granted_put(scene))
    kept, early = granted_put(scene, content=OTHER), granted_put(scene, content=OTHER)
    send(early)
    assert 200 == seal(scene, grant, listed("outputs/x", MODEL)).status
    before = await scene.everything()

    assert 404 == send(kept).status
    for url in (kept, early):
        upload = parse_qs(urlsplit(url.url).query)["uploadId"][0]
        part = {"number": 1, "etag": hashlib.md5(OTHER).hexdigest(), "sha256": hashlib.sha256(OTHER).hexdigest()}
        assert 409 == parts(scene, grant, "outputs/x", "complete", uploadId=upload, parts=[part]).status
    assert before == await scene.everything()


# -- a grant


def forged(scene: Scene, keys: Keys | None = None, **changes: Any) -> str:
    """The thief's grant with other contents, signed by the server's own key (or another)."""
    grant = Grant(1, "team", f"{scene.settings.storage_url}/team", KEY, 1, 0, "pod", int(time.time()) + MARGIN_SECONDS)
    return sign(msgspec.structs.replace(grant, **changes), keys or scene.keys())


def twisted(scene: Scene, **changes: Any) -> str:
    """The thief's true grant with other contents under its old signature."""
    head, identifier, payload, mac = scene.granted("pod-1-0").split(".")
    held = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(changes) <= set(held)
    changed = base64.urlsafe_b64encode(json.dumps({**held, **changes}).encode()).rstrip(b"=").decode()
    return ".".join((head, identifier, changed, mac))


GRANTS: dict[str, Callable[[Scene], str]] = {
    "another rank": lambda scene: twisted(scene, rank=1),
    "another attempt": lambda scene: twisted(scene, attempt=2),
    "another job": lambda scene: twisted(scene, key=f"{VICTIM}-{TEAM_UID[:8]}"),
    "another namespace": lambda scene: twisted(scene, namespace="evil"),
    "another store": lambda scene: twisted(scene, storage=f"{scene.settings.storage_url}/evil"),
    "a longer life": lambda scene: twisted(scene, expires=9**12),
    "after expiry": lambda scene: forged(scene, expires=int(time.time()) - 1),
    "another key": lambda scene: forged(scene, Keys(b"k" * 32)),
    "a protocol of tomorrow": lambda scene: forged(scene, protocol=99),
    "a pod's token in its place": lambda scene: "pod-1-0",
}


@pytest.mark.parametrize("stolen", GRANTS.values(), ids=GRANTS)
@pytest.mark.parametrize("route", ["reads", "writes", "multipart", "seal"])
async def test_a_grant_is_good_for_its_own_rank_and_time(
    scene: Scene, route: str, stolen: Callable[[Scene], str]
) -> None:
    scene.granted("pod-1-0")
    before = await scene.everything()
    bodies: dict[str, dict[str, Any]] = {
        "reads": {"keys": []},
        "writes": {"objects": [listed("outputs/x", MODEL)]},
        "multipart": {"action": "create", "path": "outputs/x"},
        "seal": {"exit": None, "files": []},
    }

    answer = scene.call("POST", f"/v1/{route}", {"grant": stolen(scene), **bodies[route]})

    assert 401 == answer.status, answer.body
    assert before == await scene.everything()


READS: dict[str, str] = {
    "another rank's seal": layout.seal(KEY, 1, 1),
    "a later attempt's seal": layout.seal(KEY, 2, 0),
    "another job's record": layout.job_record(f"{VICTIM}-{TEAM_UID[:8]}"),
    "a snapshot that the job does not name": f"snapshots/sha256/{'a' * 64}.zip",
    "another namespace's record": f"../evil/{layout.job_record(KEY)}",
    "everything": "",
}


@pytest.mark.parametrize("key", READS.values(), ids=READS)
async def test_a_grant_reads_what_its_job_names(scene: Scene, key: str) -> None:
    answer = scene.call("POST", "/v1/reads", {"grant": scene.granted("pod-1-0"), "keys": [key]})

    assert answer.status in (400, 403), answer.body


# -- a token


TOKENS: dict[str, tuple[str, str, str, int]] = {
    "a pod's token for people's routes": ("GET", "/v1/namespaces/team/jobs", "pod-1-0", 401),
    "a pod's token to remove a run": ("DELETE", f"/v1/namespaces/team/jobs/{KEY}", "pod-1-0", 401),
    "an editor's token for a grant": ("POST", "/v1/grant", "stoker-editor of team", 401),
    "an editor of another namespace reads": ("GET", "/v1/namespaces/team/jobs", "stoker-editor of evil", 403),
    "an editor of another namespace removes": (
        "DELETE", f"/v1/namespaces/team/jobs/{KEY}", "stoker-editor of evil", 403,
    ),
    "a viewer removes": ("DELETE", f"/v1/namespaces/team/jobs/{KEY}", "stoker-viewer of team", 403),
    "the namespace's default account": ("GET", "/v1/namespaces/team/jobs", "default of team", 403),
    "nobody's token": ("POST", "/v1/grant", "made up", 401),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "token", "expected"), TOKENS.values(), ids=TOKENS)
async def test_a_token_is_good_for_its_own_account_and_namespace(
    scene: Scene, method: str, path: str, token: str, expected: int
) -> None:
    before = await scene.everything()

    answer = scene.call(method, path, {"protocol": 1} if method == "POST" else None, token)

    assert expected == answer.status, answer.body
    assert before == await scene.everything()


async def test_each_pods_token_gives_the_grant_of_its_own_rank(scene: Scene) -> None:
    for attempt in (1, 2):
        for rank in (0, 1):
            send(granted_put(scene, token=f"pod-{attempt}-{rank}"))
    send(granted_put(scene, token="pod-victim"))
    send(granted_put(scene, token="pod-evil"))

    stored = {key for key in await scene.everything() if key.endswith("outputs/x")}
    ranks = {f"team/{layout.rank_prefix(KEY, n, r)}outputs/x" for n in (1, 2) for r in (0, 1)}
    victim = f"team/{layout.rank_prefix(f'{VICTIM}-{TEAM_UID[:8]}', 1, 0)}outputs/x"
    assert ranks | {victim, f"evil/{layout.rank_prefix(KEY, 1, 0)}outputs/x"} == stored
