from azure.ai.ml import MLClient, PyTorchDistribution, command
from azure.ai.ml.entities import AmlCompute, JobResourceConfiguration
from azure.identity import DefaultAzureCredential

ml_client = MLClient(DefaultAzureCredential(), "0000", "group", "workspace")

gpu_compute_target = "gpu-cluster"
try:
    gpu_cluster = ml_client.compute.get(gpu_compute_target)
except Exception:
    gpu_cluster = AmlCompute(
        name=gpu_compute_target,
        type="amlcompute",
        size="Standard_NC6s_v3",
        min_instances=0,
        max_instances=4,
        idle_time_before_scale_down=180,
        tier="Dedicated",
    )
    gpu_cluster = ml_client.compute.begin_create_or_update(gpu_cluster).result()
print(f"AMLCompute with name {gpu_cluster.name} is there")

job = command(
    code="./src",
    command="python main.py --epochs ${{inputs.epochs}}",
    inputs={"epochs": 10},
    environment="AzureML-acpt-pytorch-2.2-cuda12.1@latest",
    compute="gpu-cluster",
    instance_count=2,
    distribution=PyTorchDistribution(process_count_per_instance=1),
    shm_size="2g",
    timeout=3600,
    tags={"model": "resnet"},
)
job.set_limits(timeout=7200)
job.display_name = "two nodes"
first = ml_client.jobs.create_or_update(job)
ml_client.jobs.stream(first.name)

other = job(epochs=20)
other.resources = JobResourceConfiguration(instance_count=2, instance_type="Standard_NC6s_v3")
second = ml_client.jobs.create_or_update(other, experiment_name="longer")
ml_client.jobs.stream(second.name)

while ml_client.jobs.get(second.name).status not in ["Completed", "Failed", "Canceled"]:
    raise SystemExit("a run that was followed to its end has ended")
for one in ml_client.jobs.list():
    print(one.name, one.status)
ml_client.jobs.archive(name=first.name)
