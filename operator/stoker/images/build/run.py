"""One build from request to record: of an image that is there already, or that is made anew (`known`, `anew`)."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from stoker import __version__
from stoker.core.environment.lock import Lock
from stoker.core.environment.request import INDEX_AUTH_FILE, BuildRequest, BuildResult
from stoker.images.build import known, record
from stoker.images.build.log import Log
from stoker.images.build.registries import as_build_failures, keyring
from stoker.images.build.work import BUILDER_VARIABLE, Work
from stoker.images.client import RegistryClient
from stoker.images.connections import Connections

if TYPE_CHECKING:
    from stoker.images.signingkey import SigningKey


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
                return await _made(Work(request, client, session, scratch, log), key)
    finally:
        await connections.close()


async def _made(work: Work, key: "SigningKey | None") -> BuildResult:
    """Takes over what is on record, else makes it."""
    lock, made = await known.on_record(work) or await _anew(work)
    # Before the record: what is found by its spec is signed, and has its attestations.
    signed_by = await _sign(work, key, lock, made)
    with work.timed("record"):
        await record.put_record(work.client, work.request, lock, made, work.place, signed_by)
    work.log.fact("done", f"{work.place}@{made.digest}  {made.size / 1e6:.1f} MB, {work.sent / 1e6:.1f} MB sent")
    return BuildResult(
        image=f"{work.place}@{made.digest}",
        lock_key=made.lock_key,
        size_bytes=made.size,
        uploaded_bytes=work.sent,
        seconds={stage: round(seconds, 3) for stage, seconds in work.seconds.items()},
    )


async def _anew(work: Work) -> tuple[Lock, record.Made]:
    from stoker.images.build import anew  # solvers and makers of layers take as long to load as all the rest

    return await anew.make(work)


async def _sign(work: Work, key: "SigningKey | None", lock: Lock, made: record.Made) -> str:
    """The fingerprint of the key that has signed the image; empty for none."""
    if key is None:
        return ""
    from stoker.images import signatures

    with work.timed("sign") as said:
        anew = await signatures.sign(work.client, work.place, made.digest, key)
        builder = os.environ.get(BUILDER_VARIABLE, "")
        told = record.statements(work.request, lock, made, builder, work.place)
        await signatures.attest(work.client, work.place, made.digest, told, key)
        said.append(f"by the key {key.fingerprint}" + ("" if anew else ", as before"))
    return key.fingerprint
