"""The Job that builds an image, from values to a manifest: its pod meets *restricted*, its root file system is read only,
and it has no token of the cluster. Credentials come in as files of Secrets that the namespace has."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.environment import BuildSecret
from stoker.core import podshape
from stoker.core.environment import builds, keys
from stoker.core.environment.definition import Definition
from stoker.core.environment.means import Means
from stoker.core.environment.request import (
    INDEX_AUTH_FILE,
    REGISTRY_AUTH_DIRECTORY,
    REQUEST_VARIABLE,
    SIGNING_DIRECTORY,
    BuildRequest,
    Context,
)
from stoker.core.environment.stepplace import SECRETS_DIRECTORY
from stoker.core.plan import RegistryPlace

#: Where the builder works: an emptyDir.
WORK = "/work"
#: What became of a try is remembered for so long at the most, in seconds; mostly it goes when nobody wants it any more.
REMEMBERED_SECONDS = 7 * 86400
USER = 1000


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build is made from. label, number: which build, and which try. base: pinned. pull_secrets: with which the base
    is read. secrets: of docker steps. buildkit: address of a daemon; empty where none is needed. context: the folder that
    COPY takes from."""

    namespace: str
    label: str
    number: int
    definition: Definition
    definition_key: str
    spec_key: str
    platform: str
    base: str
    means: Means
    refresh: str = ""
    buildkit: str = ""
    bytecode: bool = True
    secrets: tuple[BuildSecret, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    context: Context | None = None


def make_build(plan: BuildPlan) -> dict[str, Any]:
    """A batch/v1 Job of one pod and one try. Nothing owns it: several may want it, and it goes when nobody does."""
    builder = plan.means.builder
    labels = {names.LABEL_BUILD: plan.label}
    annotations = {
        names.ANNOTATION_SPEC_KEY: plan.spec_key,
        names.ANNOTATION_DEFINITION: plan.definition_key,
        names.ANNOTATION_REFRESH: plan.refresh,
        names.ANNOTATION_BUILDER: builder.digest(plan.buildkit),
        names.ANNOTATION_BUILDKIT: "true" if plan.buildkit else "",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": builds.job_name(plan.label, plan.number),
            "namespace": plan.namespace,
            "labels": labels,
            "annotations": {name: value for name, value in annotations.items() if value},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": builder.timeout_seconds,
            "ttlSecondsAfterFinished": REMEMBERED_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": _pod(plan)},
        },
    }


def request(plan: BuildPlan) -> BuildRequest:
    """What the pod is asked."""
    means, defined = plan.means, plan.definition
    assert means.registry is not None, "nothing is built without a registry"
    return BuildRequest(
        definition_key=plan.definition_key,
        spec_key=plan.spec_key,
        steps_key=keys.steps_key(defined.steps, defined.context_digest, plan.base, plan.platform),
        platform=plan.platform,
        base=plan.base,
        steps=defined.steps,
        context=plan.context,
        conda=defined.conda,
        pip=defined.pip,
        registry=means.registry.url,
        trusted=tuple(place.url for place in means.trusted),
        mirrors=means.mirrors,
        insecure=tuple(sorted({*means.insecure, *(_host(place) for place in means.places if place.insecure)})),
        addresses=dict(means.addresses),
        refresh=plan.refresh,
        buildkit=plan.buildkit,
        signing=means.signing_secret,
        prefix=keys.PREFIX,
        bytecode=plan.bytecode,
    )


def _host(place: RegistryPlace) -> str:
    return place.url.partition("/")[0]


def _pod(plan: BuildPlan) -> dict[str, Any]:
    means, builder = plan.means, plan.means.builder
    volumes = [{"name": "work", "emptyDir": {}}, *(volume for volume, _ in _mounted(plan))]
    optional = {
        "imagePullSecrets": [{"name": name} for name in builder.pull_secrets],
        "serviceAccountName": means.service_account,
        "nodeSelector": dict(builder.node_selector),
        "tolerations": [dict(toleration) for toleration in builder.tolerations],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": deepcopy(podshape.RESTRICTED_POD),
        "containers": [_container(plan)],
        "volumes": volumes,
        **{name: value for name, value in optional.items() if value},
    }


def _container(plan: BuildPlan) -> dict[str, Any]:
    asked = msgspec.json.encode(request(plan), order="deterministic").decode()
    return {
        "name": builds.CONTAINER,
        "image": plan.means.builder.image,
        "command": ["python3", "-m", "stoker.images.build"],
        "env": [
            # `$(` would be taken for a variable of the pod.
            {"name": REQUEST_VARIABLE, "value": asked.replace("$(", "$$(")},
            {"name": "TMPDIR", "value": WORK},
            {"name": "HOME", "value": WORK},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
        ],
        "resources": {name: dict(amounts) for name, amounts in plan.means.builder.resources.items()},
        "securityContext": {**deepcopy(podshape.RESTRICTED_CONTAINER), "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "work", "mountPath": WORK}, *(mount for _, mount in _mounted(plan))],
    }


def _mounted(plan: BuildPlan) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Volumes of Secrets, each with its mount."""
    means = plan.means
    secrets = dict.fromkeys((*(place.secret for place in means.places), *plan.pull_secrets))
    for number, secret in enumerate(name for name in secrets if name):
        yield _secret(
            f"registry-{number}",
            secret,
            ".dockerconfigjson",
            f"{REGISTRY_AUTH_DIRECTORY}/{number}",
            ".dockerconfigjson",
        )
    if means.index_secret:
        folder, _, file = INDEX_AUTH_FILE.rpartition("/")
        yield _secret("index", means.index_secret, "netrc", folder, file)
    if means.signing_secret:
        yield _signing(means.signing_secret)
    if plan.secrets:
        sources = [
            {"secret": {"name": one.secret_ref.name, "items": [{"key": one.secret_ref.key, "path": one.id}]}}
            for one in plan.secrets
        ]
        volume = {"name": "steps", "projected": {"defaultMode": 0o444, "sources": sources}}
        yield volume, {"name": "steps", "mountPath": SECRETS_DIRECTORY, "readOnly": True}


def _secret(name: str, secret: str, key: str, folder: str, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    volume = {
        "name": name,
        "secret": {"secretName": secret, "items": [{"key": key, "path": file}], "defaultMode": 0o440},
    }
    return volume, {"name": name, "mountPath": folder, "readOnly": True}


def _signing(secret: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Optional, so that the builder starts and says what is missing, where a pod would wait without a word."""
    items = [{"key": key, "path": key} for key in ("cosign.key", "cosign.password")]
    volume = {"secretName": secret, "items": items, "defaultMode": 0o440, "optional": True}
    return {"name": "signing", "secret": volume}, {
        "name": "signing",
        "mountPath": SIGNING_DIRECTORY,
        "readOnly": True,
    }
