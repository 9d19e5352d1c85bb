"""The server's settings, from environment variables that the chart sets. Read once at start; they never change."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.storage.objects import BadStoreUrl, StoreOptions, split_s3_url

PORT = 8080
#: Zips above this size (bytes) are refused when they are streamed through the server. 5 GiB is what one PUT may have.
SNAPSHOT_BYTES = 5 << 30


class BadSetting(ValueError):
    """A variable that the server cannot use; the message names it, its value and the fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server was set up.

    storage_url: the chart's, empty if none. client_endpoint: where people reach the store themselves, empty if they
    cannot. job_namespaces: empty = all. conditional_writes: sign If-None-Match and If-Match; false only for stores that
    refuse these headers. operator_url: where the operator's replicas answer, a host name that stands for each of them;
    empty if it is not told. uploads: zips that may be streamed through at a time, each of at most snapshot_bytes.
    pod_rate, person_rate: requests a second of one pod and of one person.
    """

    namespace: str
    storage_url: str
    options: StoreOptions
    client_endpoint: str = ""
    job_namespaces: frozenset[str] = frozenset()
    conditional_writes: bool = True
    operator_url: str = ""
    snapshot_bytes: int = SNAPSHOT_BYTES
    uploads: int = 4
    pod_rate: int = 50
    person_rate: int = 100
    scratch: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Raises BadSetting."""
        namespace = env.get("STOKER_NAMESPACE", "")
        if not namespace:
            raise BadSetting("STOKER_NAMESPACE is empty: set it to the namespace that the server runs in")
        url = env.get("STOKER_STORAGE_URL", "").rstrip("/")
        try:
            if url:
                split_s3_url(url)
        except BadStoreUrl as error:
            raise BadSetting(
                f"STOKER_STORAGE_URL: {error}; the server signs URLs, which only S3 stores have"
            ) from error
        return cls(
            namespace=namespace,
            storage_url=url,
            options=StoreOptions(
                endpoint=env.get("STOKER_STORAGE_ENDPOINT", ""),
                region=env.get("STOKER_STORAGE_REGION") or "us-east-1",
                access_key=env.get("AWS_ACCESS_KEY_ID", ""),
                secret_key=env.get("AWS_SECRET_ACCESS_KEY", ""),
                session_token=env.get("AWS_SESSION_TOKEN", ""),
            ),
            client_endpoint=env.get("STOKER_STORAGE_CLIENT_ENDPOINT", ""),
            job_namespaces=frozenset(
                name.strip() for name in env.get("STOKER_JOB_NAMESPACES", "").split(",") if name.strip()
            ),
            conditional_writes=_boolean(env, "STOKER_STORAGE_CONDITIONAL_WRITES", True),
            operator_url=env.get("STOKER_OPERATOR_URL", "").rstrip("/"),
            snapshot_bytes=_number(env, "STOKER_SNAPSHOT_BYTES", SNAPSHOT_BYTES),
            uploads=_number(env, "STOKER_UPLOADS", 4),
            pod_rate=_number(env, "STOKER_POD_RATE", 50),
            person_rate=_number(env, "STOKER_PERSON_RATE", 100),
            scratch=Path(env["STOKER_SCRATCH"]) if env.get("STOKER_SCRATCH") else None,
        )

    def serves(self, namespace: str) -> bool:
        """Whether jobs of this namespace are the server's business."""
        return not self.job_namespaces or namespace in self.job_namespaces


def _boolean(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = env.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise BadSetting(f"{name}={text!r}: use true or false")
    return default if not text else text == "true"


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise BadSetting(f"{name}={text!r}: use a whole number above 0")
    return int(text) if text else default
