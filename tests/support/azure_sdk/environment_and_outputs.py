import os

from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml.constants import AssetTypes, InputOutputModes
from azure.ai.ml.entities import Environment
from azure.identity import DefaultAzureCredential

ml_client = MLClient.from_config(credential=DefaultAzureCredential())

custom_env_name = "aml-scikit-learn"
custom_job_env = Environment(
    name=custom_env_name,
    description="Custom environment for a credit card job",
    tags={"scikit-learn": "1.0.2"},
    conda_file=os.path.join("./dependencies", "conda.yaml"),
    image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest",
    version="1",
)
custom_job_env = ml_client.environments.create_or_update(custom_job_env)
print(f"Environment with name {custom_job_env.name} is registered, the version is {custom_job_env.version}")

job = command(
    inputs=dict(
        data=Input(type=AssetTypes.URI_FOLDER, path="./data", mode=InputOutputModes.DOWNLOAD),
        test_train_ratio=0.2,
        registered_model_name="credit_defaults_model",
    ),
    outputs={"model": Output(type=AssetTypes.URI_FOLDER, mode=InputOutputModes.UPLOAD)},
    code="./src/",
    command="python main.py --data ${{inputs.data}} --ratio ${{inputs.test_train_ratio}} --model ${{outputs.model}}",
    environment="aml-scikit-learn@latest",
    compute="cpu-cluster",
    experiment_name="train_model_credit_default_prediction",
    display_name="credit_default_prediction",
    environment_variables={"AZUREML_COMPUTE_USE_COMMON_RUNTIME": "true"},
)
returned_job = ml_client.create_or_update(job)
print(returned_job.services["Studio"].endpoint)
ml_client.jobs.stream(returned_job.name)

by_version = command(
    command="echo done", environment=f"{custom_job_env.name}:{custom_job_env.version}", compute="cpu-cluster"
)
again = ml_client.jobs.create_or_update(by_version)
ml_client.jobs.stream(again.name)
ml_client.jobs.download(name=returned_job.name, download_path="./downloaded", all=True)
