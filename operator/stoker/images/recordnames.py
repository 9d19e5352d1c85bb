"""How records of environments are called in registries, and what is written on them."""

from stoker.core.environment.keys import short

RECORD_TYPE = "application/vnd.stoker.environment.record.v1+json"
LOCK_TYPE = "application/vnd.stoker.environment.lock.v1+json"
SPEC_KEY, DEFINITION_KEY, LOCK_KEY = "dev.stoker.spec-key", "dev.stoker.definition-key", "dev.stoker.lock-key"
IMAGE_DIGEST, IMAGE_SIZE, REFRESH = "dev.stoker.image-digest", "dev.stoker.image-size", "dev.stoker.refresh"
SIGNED_BY = "dev.stoker.signed-by"


def record_tag(spec_key: str) -> str:
    """Under which the record of a specKey lies."""
    return f"spec-{short(spec_key)}"
