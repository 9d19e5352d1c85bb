"""Variables that scripts written for Azure ML read, with what they mean here."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping

from stoker.runtime.layout import Scratch


def texts(job: Mapping[str, Any], scratch: Scratch) -> Dict[str, str]:
    """Those whose values the record alone says. job: job.json. There is no subscription, resource group or token of Azure's
    here, so none is named: what looks for them finds that it is not on Azure."""
    key, compute = str(job.get("key") or ""), str(job.get("compute") or "")
    experiment = str(job.get("experiment") or "")
    found = {
        "AZUREML_RUN_ID": key,
        "AZUREML_ROOT_RUN_ID": key,
        "AZUREML_ARM_WORKSPACE_NAME": str(job.get("namespace") or ""),
        "AZUREML_EXPERIMENT_NAME": experiment,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZ_BATCHAI_CLUSTER_NAME": compute,
        "AZUREML_CR_HT_CAP_outputs_PATH": scratch.work + "/outputs",
        "AZUREML_CR_HT_CAP_logs_PATH": scratch.work + "/logs",
        "AZUREML_CR_HT_CAP_user_logs_PATH": scratch.work + "/user_logs",
        "AZ_BATCH_NODE_ROOT_DIR": scratch.root,
        "AZ_BATCH_NODE_SHARED_DIR": scratch.tmp,
    }
    told = {name: text for name, text in found.items() if text}
    if int(job.get("instanceCount") or 1) == 1:
        told["AZ_BATCH_HOST_LIST"] = ""
    return told


def aliases(job: Mapping[str, Any]) -> Dict[str, str]:
    """Other names of Stoker's own variables, each with the name that it stands for. A secret has one name only."""
    found = {"AZUREML_CR_NODE_RANK": "STOKER_RANK", "AZ_BATCHAI_MPI_MASTER_NODE": "MASTER_ADDR"}
    if int(job.get("instanceCount") or 1) > 1:
        found["AZ_BATCH_HOST_LIST"] = "STOKER_HOSTS"
    for name, given in (job.get("inputs") or {}).items():
        own = "STOKER_INPUT_" + name
        if given.get("type") == "literal":
            found["AZUREML_PARAMETER_" + name] = own
        elif given.get("type") != "secret":
            found["AZURE_ML_INPUT_" + name] = own
            found["AZUREML_DATAREFERENCE_" + name] = own
    for name in job.get("outputs") or {}:
        found["AZURE_ML_OUTPUT_" + name] = "STOKER_OUTPUT_" + name
    return found


def of_node(environment: Mapping[str, str]) -> Dict[str, str]:
    """Those that are made of several of Stoker's; nothing where Stoker's are not set."""
    if "STOKER_RANK" not in environment:
        return {}
    found = {"AZUREML_PROCESS_NAME": "rank_" + environment["STOKER_RANK"]}
    hosts = [host for host in environment.get("STOKER_HOSTS", "").split(",") if host]
    if hosts:
        found["AZUREML_CR_DISTRIBUTED_CONFIG"] = json.dumps({"host_list": hosts})
    if "MASTER_ADDR" in environment and "MASTER_PORT" in environment:
        found["AZ_BATCH_MASTER_NODE"] = "%s:%s" % (environment["MASTER_ADDR"], environment["MASTER_PORT"])
    return found
