"""Images that are there already: nothing is solved for what is on record, and no layer made for a lock that was made before."""

import msgspec

from stoker.core.environment import keys
from stoker.core.environment.lock import Lock
from stoker.images.build import record
from stoker.images.build.work import Work, lock_key_of
from stoker.images.compose import BaseImage, Image
from stoker.images.recordnames import LOCK_KEY
from stoker.images.together import together
from stoker.images.transfer import put_image


async def on_record(work: Work) -> tuple[Lock, record.Made] | None:
    """The image of this definition, where a registry knows it since the operator looked."""
    places = (work.place, *work.trusted)
    found = await together(record.find_lock(work.client, work.request, place) for place in places)
    lock = next((one for one in found if one is not None), None)
    if lock is None:
        return None
    made = await find(work, lock_key_of(work.request, lock))
    return (lock, made) if made is not None else None


async def find(work: Work, lock_key: str) -> record.Made | None:
    """The image of this lock, where it has been made before. From a trusted registry it is taken over whole."""
    tag = f"lock-{keys.short(lock_key)}"
    for place in (work.place, *work.trusted):
        image = await _image(work, place, tag, lock_key)
        if image is None:
            continue
        with work.timed("push") as said:
            if place != work.place:
                sources = dict.fromkeys((layer.digest for layer in image.layers), place)
                work.sent += await put_image(work.client, image, sources, work.place, tag)
            said.append(f"the image of this lock is there: {place}")
        return record.Made(lock_key, image.digest, image.size)
    return None


async def _image(work: Work, place: str, tag: str, lock_key: str) -> Image | None:
    """The image under a tag, if it is that of the lock: tags are short, the whole key is its label."""
    manifest = await work.client.get_manifest(place, tag)
    if manifest is None:
        return None
    document = manifest.document()
    config = await work.client.get_blob(place, document["config"]["digest"])
    if config is None:
        return None
    decoded = msgspec.json.decode(config)
    if ((decoded.get("config") or {}).get("Labels") or {}).get(LOCK_KEY) != lock_key:
        return None
    return Image(config, manifest.content, BaseImage(place, manifest.digest, document, decoded).layers)
