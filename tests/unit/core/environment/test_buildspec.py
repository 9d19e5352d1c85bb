"""The Job that builds, whole: compared with a file that a person can read.

`STOKER_UPDATE_GOLDEN=1 pytest tests/unit/core/environment/test_buildspec.py` writes it anew; read the diff.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from stoker.core.environment import definition
from stoker.core.environment.buildspec import BuildPlan, make_build
from stoker.core.environment.request import BuildRequest, Context, Mirrors
from tests.support import build
from tests.support import build_envs as env

GOLDEN = Path(__file__).parents[1] / "golden"


def plan(**members: Any) -> BuildPlan:
    wanted = env.wanted(spec=env.spec(**members.pop("spec", {})))
    defined, spec_key = env.keys_of(wanted)
    return BuildPlan(
        namespace=build.NAMESPACE, label=env.label_of(wanted), number=1, definition=definition.read(wanted.spec),
        definition_key=defined, spec_key=spec_key, platform="linux/amd64", base=build.PINNED, means=env.MEANS,
        pull_secrets=("pull",), **members,
    )  # fmt: skip


FULL = replace(
    env.MEANS,
    mirrors=Mirrors(pypi="https://packages.example.com/simple", conda={"conda-forge": "https://packages.example.com/forge"}),
    index_secret="indexes", service_account="builder", signing_secret="cosign", insecure=("plain.example.com:5000",),
    addresses=(("registry.example.com", "registry.ml.svc:5000"),),
    builder=replace(env.BUILDER, pull_secrets=("mine",), node_selector={"role": "builds"},
                    tolerations=({"key": "builds", "operator": "Exists"},)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "made"), [("build", plan()), ("build-full", replace(plan(), means=FULL))])
def test_the_job_is_as_it_is_kept(name: str, made: BuildPlan) -> None:
    manifest, file = make_build(made), GOLDEN / f"{name}.yaml"
    if os.environ.get("STOKER_UPDATE_GOLDEN"):
        file.write_text(yaml.safe_dump(manifest, sort_keys=True, width=120))

    assert yaml.safe_load(file.read_text()) == manifest


def pod_of(made: BuildPlan) -> dict[str, Any]:
    pod: dict[str, Any] = make_build(made)["spec"]["template"]["spec"]
    return pod


def request_of(made: BuildPlan) -> BuildRequest:
    text = pod_of(made)["containers"][0]["env"][0]["value"].replace("$$(", "$(")
    return msgspec.json.decode(text, type=BuildRequest)


def test_the_pod_has_no_right_and_can_write_nowhere_but_in_its_work_folder() -> None:
    pod = pod_of(plan())
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert ["work"] == [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]


def test_no_credential_is_in_the_request() -> None:
    told = pod_of(replace(plan(), means=FULL))["containers"][0]["env"]

    assert "push" not in str(told)
    assert "indexes" not in str(told)


def test_the_request_says_all_that_the_builder_needs() -> None:
    asked = request_of(replace(plan(), means=FULL, refresh="again", context=Context(url="https://s/z", digest="d")))

    assert ("registry.example.com/ml/team", ("registry.example.com/shared",)) == (asked.registry, asked.trusted)
    assert {"registry.example.com": "registry.ml.svc:5000"} == asked.addresses
    assert ("again", build.PINNED, {"requirements": ["numpy==2.1"]}) == (asked.refresh, asked.base, asked.pip)
    assert "https://s/z" == (asked.context.url if asked.context else None)


def test_the_signing_key_is_a_file_of_the_build_alone_and_of_no_other_key_of_its_secret() -> None:
    """Optional, so that the builder says what is missing where the kubelet would only wait."""
    made = replace(plan(), means=FULL)
    (volume,) = [one for one in pod_of(made)["volumes"] if one["name"] == "signing"]
    (mount,) = [one for one in pod_of(made)["containers"][0]["volumeMounts"] if one["name"] == "signing"]

    assert {"cosign.key", "cosign.password"} == {item["key"] for item in volume["secret"]["items"]}
    assert ("cosign", True) == (volume["secret"]["secretName"], volume["secret"]["optional"])
    assert ("/var/run/stoker/signing", True) == (mount["mountPath"], mount["readOnly"])
    assert "cosign" == request_of(made).signing
    assert "signing" not in [one["name"] for one in pod_of(plan())["volumes"]]


def test_a_text_that_looks_like_a_variable_stays_what_it_is() -> None:
    steps = {"dockerSteps": ["ENV WHERE=$(HOME)"]}

    assert ("ENV WHERE=$(HOME)",) == request_of(plan(spec=steps)).steps
    assert "$$(HOME)" in pod_of(plan(spec=steps))["containers"][0]["env"][0]["value"]


def test_secrets_of_steps_are_files_named_by_their_ids() -> None:
    spec = {
        "dockerSteps": ["RUN --mount=type=secret,id=token cat /run/secrets/token"],
        "secrets": [{"id": "token", "secretRef": {"name": "s", "key": "k"}}],
    }
    made = plan(spec=spec, secrets=env.spec(**spec).secrets, buildkit="tcp://buildkit:1234")
    volume = next(one for one in pod_of(made)["volumes"] if one["name"] == "steps")

    assert [{"secret": {"name": "s", "items": [{"key": "k", "path": "token"}]}}] == volume["projected"]["sources"]
    assert "true" == make_build(made)["metadata"]["annotations"]["stoker.dev/buildkit"]
