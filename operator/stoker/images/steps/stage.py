"""The stage of a build that does the docker steps.

Its image lies beside those of environments under the steps' own key, so that a change of the packages runs no step
again. Where it is there already, nothing is done, and BuildKit is not even asked whether it is awake.
"""

import asyncio
import io
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stoker.core.environment.keys import short
from stoker.core.environment.request import REGISTRY_AUTH_DIRECTORY, BuildRequest
from stoker.core.environment.stepplace import first_that_needs, needs_buildkit
from stoker.core.environment.stepwords import BadStep
from stoker.images.build.log import Log
from stoker.images.bytes import Feed
from stoker.images.client import RegistryClient
from stoker.images.compose import BaseImage, compose
from stoker.images.failure import BuildFailed
from stoker.images.layers import Layer, write_layer
from stoker.images.steps import buildkit, context, native
from stoker.images.steps.basetree import BaseTree
from stoker.images.steps.copying import entries
from stoker.images.transfer import load_base, put_image

#: On the image: its key in full, compared with what is wanted whenever it is found.
LABEL = "dev.stoker.steps-key"
STAGE = buildkit.STAGE


async def apply(request: BuildRequest, base: BaseImage, client: RegistryClient, log: Log) -> BaseImage:
    """The base with the request's steps on top, in the workspace's registry or a trusted one. Raises BuildFailed."""
    own = f"{request.registry}/environments"
    tag = f"steps-{short(request.steps_key)}"
    for place in (own, *(f"{registry}/environments" for registry in request.trusted)):
        known = await _known(client, place, tag, request.steps_key)
        if known is not None:
            log.fact(STAGE, f"{len(request.steps)} steps were done before: {place}:{tag}")
            return known
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        work = Path(folder)
        files = await context.fetch(request.context, work)
        if needs_buildkit(request.steps):
            await _through_buildkit(request, base, own, tag, files, work, log)
        else:
            await _here(request, base, own, tag, files, work, client)
    log.fact(STAGE, f"{len(request.steps)} steps done: {own}:{tag}", time.monotonic() - start)
    return await load_base(client, f"{own}:{tag}", {})


async def _known(client: RegistryClient, place: str, tag: str, key: str) -> BaseImage | None:
    try:
        found = await load_base(client, f"{place}:{tag}", {})
    except BuildFailed as failure:
        if failure.reason == "BaseImageNotFound":
            return None
        raise
    labels = (found.config.get("config") or {}).get("Labels") or {}
    return found if labels.get(LABEL) == key else None


async def _through_buildkit(
    request: BuildRequest, base: BaseImage, own: str, tag: str, files: Path, work: Path, log: Log
) -> None:
    if not request.buildkit:
        raise BuildFailed(
            "NoBuilderAvailable",
            f"{first_that_needs(request.steps).splitlines()[0]}: no BuildKit is there to run it; set buildkit.enabled or "
            "buildkit.address in the chart's values, or spec.buildkit.address of the Workspace",
            where="dockerSteps",
        )
    target, source = _reached(own, request.addresses), _reached(base.place, request.addresses)
    await buildkit.solve(
        buildkit.Solve(
            base=f"{source}@{base.digest}",
            steps=request.steps,
            platform=request.platform,
            target=f"{target}:{tag}",
            address=request.buildkit,
            context=files,
            work=work,
            docker_config=buildkit.docker_config(work / "docker", _credentials(), request.addresses),
            insecure=own.partition("/")[0] in request.insecure,
            labels={LABEL: request.steps_key},
        ),
        log,
    )


def _reached(place: str, addresses: Mapping[str, str]) -> str:
    """The repository under the name by which pods reach its registry."""
    registry, _, path = place.partition("/")
    return f"{addresses.get(registry, registry)}/{path}"


def _credentials() -> list[str]:
    """What the mounted Secrets of registries hold, the registry that is pushed to first."""
    return [file.read_text() for file in sorted(Path(REGISTRY_AUTH_DIRECTORY).glob("*/.dockerconfigjson"))]


async def _here(
    request: BuildRequest, base: BaseImage, own: str, tag: str, files: Path, work: Path, client: RegistryClient
) -> None:
    """Without BuildKit: changes of the config, and one layer for all that is copied."""
    try:
        changes, copies = native.read(request.steps, base.config, request.platform)
        layers: list[Layer] = []
        if copies:
            tree = await _folders(client, base)
            made = entries(copies, files, tree)
            lines = "; ".join(copy.step for copy in copies)
            layers.append(await asyncio.to_thread(write_layer, made, work / "layer", root="", created_by=lines))
    except BadStep as error:
        raise BuildFailed("DockerStepFailed", str(error), where="dockerSteps") from None
    for layer in layers:
        await client.push_blob(own, layer.digest, layer.size, work / "layer")
    sources = {layer.digest: base.place for layer in base.layers} | {layer.digest: own for layer in layers}
    image = compose(base, layers, replace(changes, labels=(*changes.labels, (LABEL, request.steps_key))))
    await put_image(client, image, sources, own, tag)


async def _folders(client: RegistryClient, base: BaseImage) -> BaseTree:
    tree, loop = BaseTree(), asyncio.get_running_loop()
    for layer in base.layers:
        stream = client.stream_blob(base.place, layer.digest)
        await asyncio.to_thread(tree.read, io.BufferedReader(Feed(stream, loop), 1 << 20))
    return tree
