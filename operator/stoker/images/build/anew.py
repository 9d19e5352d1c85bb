"""An image made anew: base, solve, layers. Loaded where there is none already."""

import asyncio
import contextlib
import os

from stoker.core.environment import keys
from stoker.core.environment.lock import Lock, layer_format
from stoker.core.environment.request import BuildRequest
from stoker.images.assemble import Assembly, assemble
from stoker.images.build import known, record
from stoker.images.build.prober import probe_base
from stoker.images.build.solve import Solved, solve_conda, solve_pip
from stoker.images.build.sources import Workshop
from stoker.images.build.work import BUILDER_VARIABLE, Work, lock_key_of
from stoker.images.compose import BaseImage, ConfigChanges, compose
from stoker.images.packagestore import PackageStore
from stoker.images.recordnames import LOCK_KEY
from stoker.images.transfer import load_base, move, put_image


async def make(work: Work) -> tuple[Lock, record.Made]:
    """The lock and its image, in the registry. Raises BuildFailed and the client's errors."""
    request = work.request
    with work.timed("base"):
        base = await load_base(work.client, request.base, request.mirrors.images)
    if request.steps:
        from stoker.images import steps  # few environments have any

        with work.timed("steps"):
            base = await steps.apply(request, base, work.client, work.log)
    solved = await _solve(work, base) if request.conda or request.pip else None
    lock = solved.lock if solved is not None else _empty_lock(request)
    lock_key = lock_key_of(request, lock)
    made = await known.find(work, lock_key)
    return lock, made if made is not None else await _put_together(work, base, solved, lock, lock_key)


async def _solve(work: Work, base: BaseImage) -> Solved:
    with work.timed("probe") as said:
        probe, known = await probe_base(work.client, base, work.place, work.trusted)
        pythons = ", ".join(f"Python {one.version} at {one.path}" for one in probe.interpreters[:2]) or "no Python"
        glibc = ".".join(map(str, probe.glibc)) or "none"
        said.append(f"{pythons}, glibc {glibc}" + (", known" if known else ""))
    with work.timed("solve") as said:
        if work.request.conda:
            cuda = base.variable("CUDA_VERSION")
            solved = await solve_conda(work.request, probe, work.scratch, ".".join(cuda.split(".")[:2]))
        else:
            solved = await solve_pip(work.request, probe, work.scratch, work.session)
        said.append(f"{len(solved.lock.packages)} packages for Python {solved.lock.python or 'none'}")
    for package in solved.lock.packages:
        work.log.fact("package", f"{package.kind} {package.name} {package.version} {package.build}".rstrip())
    return solved


async def _put_together(work: Work, base: BaseImage, solved: Solved | None, lock: Lock, lock_key: str) -> record.Made:
    """The image from its layers; the base's are moved meanwhile."""
    target = work.place
    moving = asyncio.create_task(move(work.client, [(layer, base.place) for layer in base.layers], target))
    try:
        assembly = await _assemble(work, solved) if solved is not None else Assembly()
        work.sent += await moving + assembly.sent
    finally:
        moving.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await moving
    with work.timed("push") as said:
        layers = [stored.layer for stored in assembly.layers]
        image = compose(base, layers, changes(solved, lock_key))
        sources = dict.fromkeys((layer.digest for layer in base.layers), target)
        sources |= {stored.layer.digest: stored.place for stored in assembly.layers}
        made = record.Made(lock_key, image.digest, image.size)
        builder = os.environ.get(BUILDER_VARIABLE, "")
        papers = {
            record.SBOM_TYPE: record.sbom(lock, made),
            record.PROVENANCE_TYPE: record.provenance(work.request, lock, made, builder, target),
        }
        # Before the tag: what is found by its lock has its papers.
        await record.put_papers(work.client, target, made, len(image.manifest), papers)
        sent = await put_image(work.client, image, sources, target, f"lock-{keys.short(lock_key)}")
        work.sent += sent
        said.append(f"{len(image.layers)} layers, {sent} bytes for the image itself")
    return made


async def _assemble(work: Work, solved: Solved) -> Assembly:
    with work.timed("packages") as said:
        workshop = Workshop(solved, work.session, work.scratch, bytecode=work.request.bytecode)
        if work.request.bytecode and solved.lock.python and not workshop.compiles:
            work.log.fact("bytecode", f"none: this builder cannot compile for Python {solved.lock.python}")
        store = PackageStore(work.client, work.request.registry, work.request.trusted)
        try:
            assembly = await assemble(workshop.sources(), store, work.scratch, solved.layout.prefix, workshop.prepare)
        finally:
            await workshop.close()
        said.append(
            f"{assembly.found} layers found, {assembly.made} made, {workshop.fetcher.bytes / 1e6:.1f} MB fetched, "
            f"{assembly.sent / 1e6:.1f} MB sent"
        )
    return assembly


def changes(solved: Solved | None, lock_key: str) -> ConfigChanges:
    """What the environment changes in how a container starts."""
    labels = ((LOCK_KEY, lock_key),)
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
