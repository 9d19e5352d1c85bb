"""`stoker init` and `stoker completion`: the first things in a new folder and a new shell."""

import shlex
from pathlib import Path

import click

from stoker.cli.options import Common, common
from stoker.errors import BadInput

_JOB = """# A training job: `stoker run` trains here, `stoker run --compute NAME` on a cluster. Nothing else changes.
# The keys are those of Azure ML's command job.

# What runs, in the code's folder. ${{inputs.NAME}} becomes the input's text.
command: python SCRIPT --epochs ${{inputs.epochs}}

# The folder that is sent. `stoker snapshot` lists what goes and what .amlignore keeps back.
code: .

inputs:
  epochs: 3
  # data: {type: uri_folder, path: ./data}    # a local folder is sent along; s3://... is fetched on the node

# What it runs in. A cluster uses the image; this machine installs the packages into a cached environment.
environment:
  image: python:3.12-slim
  pip: []

# Everything written to ./outputs is kept. Named outputs get a folder of their own, $STOKER_OUTPUT_model:
# outputs:
#   model: {type: uri_folder}

# compute: cpu                                # missing: this machine
# resources: {instance_count: 1}
# limits: {timeout: 2h}
# environment_variables: {HF_HOME: /tmp/hf}
# experiment_name: first
# tags: {owner: me}
"""
_IGNORE = """# What `stoker` does not send: the syntax of .gitignore. This file replaces .gitignore; only the one in the root counts.
.venv/
venv/
__pycache__/
*.pyc
.ipynb_checkpoints/
mlruns/
wandb/
outputs/
logs/
"""
_SCRIPT = '''"""Trains nothing yet: counts epochs and leaves a file in ./outputs."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
for epoch in range(1, parser.parse_args().epochs + 1):
    print(f"epoch {epoch}")
Path("outputs", "result.txt").write_text("done\\n")
'''


@click.command(epilog="\b\nExamples:\n  stoker init\n  stoker init my-project")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@common
def init(common: Common, folder: Path) -> None:
    """Write a commented job.yaml and .amlignore into FOLDER; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts = sorted(path.name for path in folder.glob("*.py"))
    script = "train.py" if "train.py" in scripts or not scripts else scripts[0]
    texts = {"job.yaml": _JOB.replace("SCRIPT", shlex.quote(script)), ".amlignore": _IGNORE}
    if not scripts:
        texts["train.py"] = _SCRIPT
    written = []
    for name, text in texts.items():
        path = folder / name
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            common.output.step("kept", str(path), "is there already")
            continue
        written.append(str(path))
        common.output.step("wrote", str(path))
    common.output.note(f"next: stoker run{'' if folder == Path('.') else f' {folder}'}")
    common.output.emit({"written": written}, lambda: None, written)


@click.command(
    epilog='\b\nExamples:\n  eval "$(stoker completion bash)"\n  stoker completion fish > ~/.config/fish/completions/stoker.fish'
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL."""
    from click.shell_completion import get_completion_class

    from stoker.cli.app import cli

    found = get_completion_class(shell)
    if found is None:
        raise BadInput("SHELL", f"{shell} has no completion here", "use bash, zsh or fish")
    print(found(cli, {}, "stoker", "_STOKER_COMPLETE").source())
