"""The names by which scripts of Azure ML's know what Stoker tells them."""

import json

import pytest

from stoker.runtime.configure import LaunchConfig, complete
from stoker.runtime.contract import aliases, texts
from stoker.runtime.layout import Scratch

JOB = {
    "key": "iris-0c0ffee0",
    "namespace": "vision",
    "experiment": "iris",
    "compute": "gpu",
    "instanceCount": 2,
    "inputs": {
        "lr": {"type": "literal", "value": "0.1"},
        "data": {"type": "uri_folder"},
        "token": {"type": "secret", "secretRef": {"name": "s", "key": "k"}},
    },
    "outputs": {"model": {"type": "uri_folder"}},
}
STOKERS = {
    "STOKER_RANK": "1",
    "STOKER_HOSTS": "a,b",
    "STOKER_INPUT_lr": "0.1",
    "STOKER_INPUT_data": "/stoker/inputs/data",
    "STOKER_INPUT_token": "secret",
    "STOKER_OUTPUT_model": "/stoker/work/outputs/model",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "29500",
}


def environment(**more: str) -> dict[str, str]:
    config = LaunchConfig(default_env=texts(JOB, Scratch("/stoker")), aliases=aliases(JOB))
    return complete(config, {**STOKERS, **more})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AZUREML_RUN_ID", "iris-0c0ffee0"),
        ("AZUREML_ROOT_RUN_ID", "iris-0c0ffee0"),
        ("AZUREML_EXPERIMENT_NAME", "iris"),
        ("AZUREML_ARM_PROJECT_NAME", "iris"),
        ("AZUREML_ARM_WORKSPACE_NAME", "vision"),
        ("AZUREML_PARAMETER_lr", "0.1"),
        ("AZURE_ML_INPUT_data", "/stoker/inputs/data"),
        ("AZUREML_DATAREFERENCE_data", "/stoker/inputs/data"),
        ("AZURE_ML_OUTPUT_model", "/stoker/work/outputs/model"),
        ("AZUREML_CR_NODE_RANK", "1"),
        ("AZUREML_PROCESS_NAME", "rank_1"),
        ("AZ_BATCH_HOST_LIST", "a,b"),
        ("AZ_BATCHAI_MPI_MASTER_NODE", "a"),
        ("AZ_BATCH_MASTER_NODE", "a:29500"),
        ("AZ_BATCHAI_CLUSTER_NAME", "gpu"),
        ("AZUREML_CR_HT_CAP_outputs_PATH", "/stoker/work/outputs"),
    ],
)
def test_azure_mls_name_has_stokers_value(name: str, expected: str) -> None:
    assert expected == environment()[name]


def test_the_hosts_of_all_nodes_are_a_json_list_too() -> None:
    assert {"host_list": ["a", "b"]} == json.loads(environment()["AZUREML_CR_DISTRIBUTED_CONFIG"])


def test_what_the_user_sets_stays() -> None:
    assert "mine" == environment(AZUREML_RUN_ID="mine")["AZUREML_RUN_ID"]


def test_one_node_has_an_empty_list_of_hosts() -> None:
    assert "" == texts({**JOB, "instanceCount": 1}, Scratch("/stoker"))["AZ_BATCH_HOST_LIST"]


def test_a_secret_has_one_name() -> None:
    assert ["STOKER_INPUT_token"] == [name for name, value in environment().items() if value == "secret"]


def test_nothing_says_that_this_is_azure() -> None:
    """Azure's own packages look for these and then call Azure."""
    assert not environment().keys() & {"AZUREML_RUN_TOKEN", "AZUREML_SERVICE_ENDPOINT", "AZUREML_ARM_SUBSCRIPTION"}
