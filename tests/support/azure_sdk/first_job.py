from azure.ai.ml import Input, MLClient, command
from azure.identity import DefaultAzureCredential, InteractiveBrowserCredential

try:
    credential = DefaultAzureCredential()
    credential.get_token("https://management.azure.com/.default")
except Exception:
    credential = InteractiveBrowserCredential()

ml_client = MLClient(
    credential=credential, subscription_id="0000", resource_group_name="group", workspace_name="workspace"
)

command_job = command(
    code="./src",
    command="python main.py --iris-csv ${{inputs.iris_csv}} --learning-rate ${{inputs.learning_rate}} --boosting ${{inputs.boosting}}",
    environment="AzureML-sklearn-1.5@latest",
    inputs={
        "iris_csv": Input(type="uri_file", path="./data/iris.csv"),
        "learning_rate": 0.9,
        "boosting": "gbdt",
    },
    compute="cpu-cluster",
)

returned_job = ml_client.jobs.create_or_update(command_job)
aml_url = returned_job.studio_url
print("Monitor your job at", aml_url)
ml_client.jobs.stream(returned_job.name)
