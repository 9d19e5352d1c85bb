"""The SDK's names: cheap to have, the same wherever they are listed, and honest about what is not there."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import stoker
from stoker import sdk

AZURE = Path(stoker.__file__).parent / "azure"


def _said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_stoker_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import stoker; print(*(set(sys.modules) - before))"

    assert "stoker" == _said(code).strip()


def test_making_a_job_and_a_client_imports_nothing_heavy() -> None:
    code = "import sys\nfrom stoker import Client, Input, command\nprint(command(command='x', inputs={'a': Input(path='b')}), Client(), *sys.modules)"

    assert not {"kubernetes", "rich", "obstore", "websocket", "click", "asyncio", "yaml", "msgspec"} & set(
        _said(code).split()
    )


def test_the_stub_the_module_and_the_sdk_list_the_same_names() -> None:
    stub = Path(stoker.__file__).with_suffix(".pyi").read_text()
    of_stub = set(re.findall(r"import (\w+) as", stub))

    assert {*stoker._OF_SDK, *stoker._ERRORS} == of_stub
    assert set(sdk.__all__) == set(sdk._PLACES)
    assert set(stoker._OF_SDK) <= set(sdk.__all__)
    for name in of_stub:
        assert getattr(stoker, name)


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = stoker.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from stoker.azure.ai.ml.sweep import Choice", "sweeps are not supported yet"),
        ("from stoker.azure.ai.ml import dsl", "pipelines are not supported yet"),
        ("from stoker.azure.ai.ml.dsl import pipeline", "pipelines are not supported yet"),
        ("from stoker.azure.ai.ml import automl", "AutoML is not supported yet"),
        ("from stoker.azure.ai.ml.entities import JobSchedule", "schedules are not supported yet"),
        ("from stoker.azure.ai.ml.entities import ManagedOnlineEndpoint", "does not serve them"),
        ("from stoker.azure.ai.ml import nonsense", "has no nonsense"),
    ],
)
def test_what_azure_has_and_stoker_has_not_says_so_when_it_is_imported(line: str, words: str) -> None:
    with pytest.raises(ImportError, match=words):
        exec(line)


def test_a_part_of_the_client_that_is_not_here_says_so() -> None:
    from stoker.azure.ai.ml import MLClient

    with pytest.raises(AttributeError, match=r"MLClient has no online_endpoints: .* does not serve"):
        _ = MLClient().online_endpoints


def test_azures_constructor_is_taken_with_one_word_of_it() -> None:
    from stoker.azure.ai.ml import MLClient
    from stoker.azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential(exclude_managed_identity_credential=True)
    assert "" == credential.get_token("https://management.azure.com/.default").token
    with pytest.warns(UserWarning, match="the kubeconfig says which cluster") as told:
        MLClient(credential, "subscription", "group", "workspace")
    assert 1 == len(told)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sklearn-env:3", "azureml:sklearn-env:3"),
        ("AzureML-lightgbm-3.2@latest", "azureml:AzureML-lightgbm-3.2@latest"),
        ("registry.example.com/a:1", "registry.example.com/a:1"),
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest",) * 2,
    ],
)
def test_in_azures_names_an_environment_with_a_version_is_no_image(given: str, expected: str) -> None:
    from stoker.azure.ai.ml import command

    assert expected == command(command="x", environment=given).environment


def test_every_module_of_azures_names_has_what_it_lists() -> None:
    for name in ("azure.ai.ml", "azure.ai.ml.entities", "azure.ai.ml.constants", "azure.identity", "azure.core.exceptions",
                 "azureml.core", "azureml.core.runconfig"):  # fmt: skip
        module = import_module(f"stoker.{name}")
        assert all(getattr(module, one) is not None for one in module.__all__)
