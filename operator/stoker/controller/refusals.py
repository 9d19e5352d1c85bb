"""What stores, registries and the API server say other than yes, as answers to the planners' questions."""

from stoker.core.plan import Refused, Unavailable
from stoker.core.reference import BadReference
from stoker.images.auth import BadCredentials
from stoker.images.errors import RegistryError, RegistryUnreachable, Unauthorized
from stoker.images.registry import BaseImageNotFound, BaseImageUnauthorized, PlatformMissing
from stoker.kube.errors import KubeError, NotFound, Rejected
from stoker.storage import records, snapshots
from stoker.storage.objects import BadStoreUrl, StoreError, StoreRefused

#: What may be told as an answer. Everything else is a defect of ours.
TOLD = (StoreError, records.BadRecord, BadReference, RegistryError, BadCredentials, KubeError)

#: What only a person can mend: error, reason, fix. The first line that fits counts.
_REFUSED: tuple[tuple[type[Exception], str, str], ...] = (
    (BadStoreUrl, "StorageNotConfigured", "set spec.storage.url of Workspace/default in the namespace, or the chart's storage.url"),
    (StoreRefused, "StorageRefused", "check the store's bucket, credentials and quota in the chart's values or the Workspace"),
    (snapshots.SnapshotCorrupt, "SnapshotCorrupt", "push the folder again: `stoker snapshot DIR --push`"),
    (records.BadRecord, "RecordUnreadable", "a person must look at the stored record"),
    (BaseImageNotFound, "BaseImageNotFound", "push the image, or correct the environment's image"),
    (PlatformMissing, "ArchitectureMismatch", ""),
    (BaseImageUnauthorized, "BaseImageUnauthorized", ""),
    (Unauthorized, "RegistryUnauthorized", ""),
    (BadCredentials, "PullSecretInvalid", "make the Secret anew: `kubectl create secret docker-registry`"),
    (NotFound, "PullSecretNotFound", "create the pull secret, or take out its name"),
    (Rejected, "PullSecretForbidden", "let the operator read this Secret with a Role and RoleBinding in the namespace"),
)  # fmt: skip


def answer(error: Exception, mended_at: float, again_at: float) -> Refused | Unavailable:
    """The answer that one of TOLD is. mended_at, again_at: when to ask again what a person, and what time may mend."""
    if isinstance(error, BadReference):
        return Refused("ImageReferenceInvalid", str(error), "correct the environment's image")
    if isinstance(error, RegistryUnreachable):
        return Unavailable("RegistryUnreachable", str(error), "see whether the registry answers", error.retry_at)
    words = error.message if isinstance(error, KubeError) else str(error)
    for kind, reason, fix in _REFUSED:
        if isinstance(error, kind):
            return Refused(reason, words, fix or getattr(error, "fix", ""), mended_at)
    if isinstance(error, RegistryError):
        return Refused(
            "RegistryRefused", words, "a person must look at what that registry holds and answers", mended_at
        )
    if isinstance(error, KubeError):
        fix = "see whether the API server answers; it is asked again"
        return Unavailable("ApiServerUnavailable", words, fix, again_at)
    return Unavailable("StorageUnavailable", words, "see whether the object store answers", again_at)
