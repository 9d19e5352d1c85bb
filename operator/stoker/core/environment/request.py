"""What the operator asks of a build's pod, and what the pod answers.

The request goes in as JSON in the variable `STOKER_BUILD`, the answer comes out as the container's termination message,
which the kubelet cuts at 4,096 bytes. Credentials are in neither: they are mounted from Secrets.
"""

from typing import Any

import msgspec

from stoker.api.schema import Spec

#: Variable that holds the request.
REQUEST_VARIABLE = "STOKER_BUILD"
#: Folder below which each registry Secret is mounted in a folder of its own, as `.dockerconfigjson`.
REGISTRY_AUTH_DIRECTORY = "/var/run/stoker/registries"
#: File with the credentials of package indexes, in netrc's format, where the Workspace names a Secret with one.
INDEX_AUTH_FILE = "/var/run/stoker/index/netrc"
#: Folder with the key that images are signed with, where the Workspace names a Secret with one.
SIGNING_DIRECTORY = "/var/run/stoker/signing"
#: What Kubernetes keeps of a termination message, in bytes.
MOST_RESULT_BYTES = 4096


class Context(Spec):
    """The folder that COPY takes from. url: a signed GET of a snapshot's zip. path: the folder below its root.
    digest: core.environment's context digest of that folder, checked before use."""

    url: str
    digest: str
    path: str = ""


class Mirrors(Spec):
    """Where packages come from instead of where their names say. pypi: base URL of a simple index. conda: channel name or
    URL -> URL. images: registry host -> `host/path`. python: URL of the list of managed Pythons, in uv's format."""

    pypi: str = ""
    conda: dict[str, str] = msgspec.field(default_factory=dict)
    images: dict[str, str] = msgspec.field(default_factory=dict)
    python: str = ""


class BuildRequest(Spec, kw_only=True):
    """One image to make: for one specKey, on one platform.

    base: `registry/repository@sha256:...` of the platform's manifest. steps, conda, pip: as in the Definition, canonical.
    registry: `host/path`; images go to `<registry>/environments`, package layers to `<registry>/packages`. trusted:
    other registries of that form, only read; what they hold is taken from there. insecure: `host:port` that speak http.
    addresses: host of a registry -> `host:port` that is connected to instead.
    refresh: the Environment's `refresh`, kept with the record. buildkit: address of a daemon, empty for none.
    signing: name of the Secret with whose key the image is signed, empty for none.
    prefix: where the packages go, an absolute path. bytecode: whether modules are compiled.
    """

    version: int = 1
    definition_key: str
    spec_key: str
    steps_key: str
    platform: str
    base: str
    steps: tuple[str, ...] = ()
    context: Context | None = None
    conda: dict[str, Any] | None = None
    pip: dict[str, Any] | None = None
    registry: str
    trusted: tuple[str, ...] = ()
    mirrors: Mirrors = Mirrors()
    insecure: tuple[str, ...] = ()
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    refresh: str = ""
    buildkit: str = ""
    signing: str = ""
    prefix: str
    bytecode: bool = True


class BuildResult(Spec, kw_only=True):
    """What came of it. With `reason` empty it is made: image is pinned by digest, sizes are in bytes of the compressed
    layers, seconds are by stage (solve, steps, packages, push).

    reason: of research/images §9, such as CondaUnsatisfiable. where: the place in the user's definition, such as
    `conda.dependencies[2]: numpy<1`. transient: whether another try may help with nothing changed. fix: what a person can
    do, where the reason alone does not tell.
    """

    version: int = 1
    image: str = ""
    lock_key: str = ""
    size_bytes: int = 0
    uploaded_bytes: int = 0
    seconds: dict[str, float] = msgspec.field(default_factory=dict)
    reason: str = ""
    message: str = ""
    where: str = ""
    transient: bool = False
    fix: str = ""
