"""PyTorch's own gloo, and Open MPI, on two real nodes of a lab: `python -m tools.try_torch` (Linux, root).

Apart from the tests because of the image: 150 MB of Debian packages, two minutes to make, 400 MB to pull on each node. What the
tests check on each run is the same variables, with a sum of the standard library's in the place of gloo's. Prints what each job said;
exit code 1 when one did not do what it should.
"""

import os
import sys
from pathlib import Path

from lab import images
from tests.support import labs
from tests.support.installed import Stoker, training_job
from tools.demo import install

GLOO = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
mine = torch.tensor([float(dist.get_rank())])
dist.all_reduce(mine)
print("torch", torch.__version__, "rank", dist.get_rank(), "of", dist.get_world_size(), "on node", os.environ["NODE_RANK"], "has", int(mine.item()), flush=True)
"""
HELLO = "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE on node $STOKER_RANK"


def main() -> int:
    """Run all of them on a lab that is ended then, if it was not there before."""
    try:
        return _try()
    finally:
        labs.end_all()


def _try() -> int:
    repository = Path(__file__).resolve().parents[1]
    lab = labs.running(os.environ.get("STOKER_LAB", "stoker-torch"), nodes=1)
    installed = install(lab, progress=lambda line: None, bundled_registry=True)
    stoker = Stoker(lab, repository, installed)
    stoker.pool("pair", most=2, idle=300)
    image = lab.image_of(images.TORCH)
    good = True
    runs = (
        ("gloo", "python3 train.py", {"train.py": GLOO}, {"type": "pytorch", "processCountPerInstance": 2}),
        ("torchrun", "torchrun --nproc-per-node=2 train.py", {"train.py": GLOO}, {"type": "pytorch"}),
        ("mpi", HELLO, None, {"type": "mpi", "processCountPerInstance": 2}),
    )
    for name, command, files, distribution in runs:
        job = training_job(name, command, image=image, compute="pair", files=files, nodes=2)
        job["spec"]["command"]["distribution"] = distribution
        stoker.apply(job)
        status = stoker.finished(name)
        base = status["logs"].split("/attempts/")[0]
        logs = [
            text for rank in (0, 1) for text in stoker.objects(f"{base}/attempts/1/{rank}/logs/std_log.txt").values()
        ]
        print(name, status["phase"], status.get("message", ""), status["attempts"][0]["nodes"], sep="  ")
        print(b"".join(logs).decode())
        good = good and status["phase"] == "Completed"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
