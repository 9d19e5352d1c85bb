"""One build from request to image: base, solve, layers, image, record."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from stoker import __version__
from stoker.core.environment import keys
from stoker.core.environment.lock import Lock, layer_format, pins
from stoker.core.environment.request import INDEX_AUTH_FILE, BuildRequest, BuildResult
from stoker.images.assemble import Assembly, assemble
from stoker.images.build import record
from stoker.images.build.log import Log
from stoker.images.build.prober import probe_base
from stoker.images.build.registries import as_build_failures, keyring
from stoker.images.build.solve import Solved, solve_conda, solve_pip
from stoker.images.build.sources import BUILDER_VARIABLE, Workshop
from stoker.images.client import RegistryClient
from stoker.images.compose import BaseImage, ConfigChanges, Image, compose
from stoker.images.connections import Connections
from stoker.images.packagestore import PackageStore
from stoker.images.together import together
from stoker.images.transfer import load_base, move, put_image

if TYPE_CHECKING:
    from stoker.images.signingkey import SigningKey

LOCK_LABEL = "dev.stoker.lock-key"


async def run(request: BuildRequest, scratch: Path, log: Log) -> BuildResult:
    """Makes the image and its record. Raises BuildFailed, and OSError where the scratch folder is full."""
    # First of all: an hour of building is no use where nothing can be signed.
    key: SigningKey | None = None
    if request.signing:
        from stoker.images.build.signer import signing_key  # loads what most builds need not

        key = signing_key(request.signing)
    if (auth := Path(INDEX_AUTH_FILE)).exists():
        # uv, aiohttp and rattler all look there.
        os.environ["NETRC"] = str(auth)
    connections = Connections(
        user_agent=f"stoker/{__version__}", insecure=frozenset(request.insecure), addresses=request.addresses
    )
    try:
        async with aiohttp.ClientSession(trust_env=True) as session:
            with as_build_failures(request):
                client = RegistryClient(connections, keyring())
                return await Build(request, client, session, scratch, log, key).run()
    finally:
        await connections.close()


class Build:
    """The state of one build while it runs. seconds: by stage. key: that signs the image; None: nobody does."""

    def __init__(
        self, request: BuildRequest, client: RegistryClient, session: aiohttp.ClientSession, scratch: Path, log: Log,
        key: "SigningKey | None" = None,
    ) -> None:  # fmt: skip
        self._request = request
        self._client = client
        self._session = session
        self._scratch = scratch
        self._log = log
        self._key = key
        self._place = environments(request.registry)
        self.seconds: dict[str, float] = {}
        self._sent = 0

    async def run(self) -> BuildResult:
        """Takes over what is on record, else makes it."""
        lock, made = await self._on_record() or await self._made_anew()
        # Before the record: what is found by its spec is signed, and has its attestations.
        signed_by = await self._sign(lock, made)
        with self._timed("record"):
            await record.put_record(self._client, self._request, lock, made, self._place, signed_by)
        self._log.fact("done", f"{self._place}@{made.digest}  {made.size / 1e6:.1f} MB, {self._sent / 1e6:.1f} MB sent")
        return BuildResult(
            image=f"{self._place}@{made.digest}",
            lock_key=made.lock_key,
            size_bytes=made.size,
            uploaded_bytes=self._sent,
            seconds={stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        )

    async def _on_record(self) -> tuple[Lock, record.Made] | None:
        """The image of this definition, where a registry knows it since the operator looked: nothing has to be solved."""
        places = [self._place, *map(environments, self._request.trusted)]
        found = await together(record.find_lock(self._client, self._request, place) for place in places)
        lock = next((one for one in found if one is not None), None)
        if lock is None:
            return None
        made = await self._find(self._lock_key(lock))
        return (lock, made) if made is not None else None

    async def _made_anew(self) -> tuple[Lock, record.Made]:
        request = self._request
        with self._timed("base"):
            base = await load_base(self._client, request.base, request.mirrors.images)
        if request.steps:
            from stoker.images import steps  # few environments have any

            with self._timed("steps"):
                base = await steps.apply(request, base, self._client, self._log)
        solved = await self._solve(base) if request.conda or request.pip else None
        lock = solved.lock if solved is not None else _empty_lock(request)
        lock_key = self._lock_key(lock)
        made = await self._find(lock_key)
        return lock, made if made is not None else await self._make(base, solved, lock, lock_key)

    def _lock_key(self, lock: Lock) -> str:
        packages = [(name, version, build, sha256) for name, version, build, sha256 in pins(lock)]
        return keys.lock_key(self._request.steps_key, lock.platform, lock.prefix, lock.layer_format, packages)

    async def _solve(self, base: BaseImage) -> Solved:
        with self._timed("probe") as said:
            trusted = [environments(one) for one in self._request.trusted]
            probe, known = await probe_base(self._client, base, self._place, trusted)
            pythons = ", ".join(f"Python {one.version} at {one.path}" for one in probe.interpreters[:2]) or "no Python"
            glibc = ".".join(map(str, probe.glibc)) or "none"
            said.append(f"{pythons}, glibc {glibc}" + (", known" if known else ""))
        with self._timed("solve") as said:
            if self._request.conda:
                cuda = base.variable("CUDA_VERSION")
                solved = await solve_conda(self._request, probe, self._scratch, ".".join(cuda.split(".")[:2]))
            else:
                solved = await solve_pip(self._request, probe, self._scratch, self._session)
            said.append(f"{len(solved.lock.packages)} packages for Python {solved.lock.python or 'none'}")
        for package in solved.lock.packages:
            self._log.fact("package", f"{package.kind} {package.name} {package.version} {package.build}".rstrip())
        return solved

    async def _find(self, lock_key: str) -> record.Made | None:
        """The image of this lock, where it has been made before. From a trusted registry it is taken over whole."""
        tag = f"lock-{keys.short(lock_key)}"
        for place in (self._place, *map(environments, self._request.trusted)):
            image = await self._image(place, tag, lock_key)
            if image is None:
                continue
            with self._timed("push") as said:
                if place != self._place:
                    sources = dict.fromkeys((layer.digest for layer in image.layers), place)
                    self._sent += await put_image(self._client, image, sources, self._place, tag)
                said.append(f"the image of this lock is there: {place}")
            return record.Made(lock_key, image.digest, image.size)
        return None

    async def _image(self, place: str, tag: str, lock_key: str) -> Image | None:
        """The image under a tag, if it is that of the lock: tags are short, the whole key is its label."""
        manifest = await self._client.get_manifest(place, tag)
        if manifest is None:
            return None
        document = manifest.document()
        config = await self._client.get_blob(place, document["config"]["digest"])
        if config is None:
            return None
        decoded = msgspec.json.decode(config)
        if ((decoded.get("config") or {}).get("Labels") or {}).get(LOCK_LABEL) != lock_key:
            return None
        return Image(config, manifest.content, BaseImage(place, manifest.digest, document, decoded).layers)

    async def _make(self, base: BaseImage, solved: Solved | None, lock: Lock, lock_key: str) -> record.Made:
        """The image from its layers; the base's are moved meanwhile."""
        target = self._place
        moving = asyncio.create_task(move(self._client, [(layer, base.place) for layer in base.layers], target))
        try:
            assembly = await self._assemble(solved) if solved is not None else Assembly()
            self._sent += await moving + assembly.sent
        finally:
            moving.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await moving
        with self._timed("push") as said:
            layers = [stored.layer for stored in assembly.layers]
            image = compose(base, layers, changes(solved, lock_key))
            sources = dict.fromkeys((layer.digest for layer in base.layers), target)
            sources |= {stored.layer.digest: stored.place for stored in assembly.layers}
            made = record.Made(lock_key, image.digest, image.size)
            builder = os.environ.get(BUILDER_VARIABLE, "")
            papers = {
                record.SBOM_TYPE: record.sbom(lock, made),
                record.PROVENANCE_TYPE: record.provenance(self._request, lock, made, builder, target),
            }
            # Before the tag: what is found by its lock has its papers.
            await record.put_papers(self._client, target, made, len(image.manifest), papers)
            sent = await put_image(self._client, image, sources, target, f"lock-{keys.short(lock_key)}")
            self._sent += sent
            said.append(f"{len(image.layers)} layers, {sent} bytes for the image itself")
        return made

    async def _sign(self, lock: Lock, made: record.Made) -> str:
        """The fingerprint of the key that has signed the image; empty for none."""
        if self._key is None:
            return ""
        from stoker.images import signatures

        with self._timed("sign") as said:
            anew = await signatures.sign(self._client, self._place, made.digest, self._key)
            builder = os.environ.get(BUILDER_VARIABLE, "")
            told = record.statements(self._request, lock, made, builder, self._place)
            await signatures.attest(self._client, self._place, made.digest, told, self._key)
            said.append(f"by the key {self._key.fingerprint}" + ("" if anew else ", as before"))
        return self._key.fingerprint

    async def _assemble(self, solved: Solved) -> Assembly:
        with self._timed("packages") as said:
            workshop = Workshop(solved, self._session, self._scratch, bytecode=self._request.bytecode)
            if self._request.bytecode and solved.lock.python and not workshop.compiles:
                self._log.fact("bytecode", f"none: this builder cannot compile for Python {solved.lock.python}")
            store = PackageStore(self._client, self._request.registry, self._request.trusted)
            try:
                assembly = await assemble(
                    workshop.sources(), store, self._scratch, solved.layout.prefix, workshop.prepare
                )
            finally:
                await workshop.close()
            said.append(
                f"{assembly.found} layers found, {assembly.made} made, {workshop.fetcher.bytes / 1e6:.1f} MB fetched, "
                f"{assembly.sent / 1e6:.1f} MB sent"
            )
        return assembly

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[list[str]]:
        """Counts a stage's seconds; what is put into the list is said when it has come to its end."""
        said: list[str] = []
        start = time.monotonic()
        try:
            yield said
            if said:
                self._log.fact(stage, said[-1], time.monotonic() - start)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start


def environments(registry: str) -> str:
    """The repository of images and records in a registry of environments."""
    return f"{registry.rstrip('/')}/environments"


def changes(solved: Solved | None, lock_key: str) -> ConfigChanges:
    """What the environment changes in how a container starts."""
    labels = ((LOCK_LABEL, lock_key),)
    if solved is None:
        return ConfigChanges(labels=labels)
    prefix = solved.layout.prefix
    env: tuple[tuple[str, str], ...] = ()
    if solved.conda is not None:
        env = (("CONDA_PREFIX", prefix), ("CONDA_DEFAULT_ENV", prefix))
    elif solved.interpreter is not None:
        env = (("VIRTUAL_ENV", prefix),)
    return ConfigChanges(env=env, path=(f"{prefix}/bin",), labels=labels)


def _empty_lock(request: BuildRequest) -> Lock:
    """Of an environment of docker steps alone."""
    return Lock(
        platform=request.platform,
        python="",
        prefix=request.prefix,
        layer_format=layer_format(request.bytecode),
        packages=(),
    )
