from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace

ws = Workspace.from_config()
env = Environment.from_docker_image(name="sklearn-env", image="python:3.12")
config = ScriptRunConfig(
    source_directory="./src",
    script="main.py",
    arguments=["--learning-rate", 0.5],
    compute_target="cpu-cluster",
    environment=env,
)
experiment = Experiment(workspace=ws, name="ridge")
run = experiment.submit(config)
print(run.get_portal_url())
run.wait_for_completion(show_output=True)
print(run.id, run.get_status())
