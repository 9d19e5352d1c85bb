"""Each rank computes the gradient of its half of the data; rank 0 averages them and sends the new weight to everyone.

Rank 0 listens on MASTER_ADDR:MASTER_PORT, as torch.distributed would. Standard library only.
"""

import argparse
import json
import os
import socket
import time
from pathlib import Path

RANK = int(os.environ["RANK"])
RANKS = int(os.environ["WORLD_SIZE"])
MASTER = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
DATA = [(x, 2.0 * x) for x in range(1, 9)]


def gradient(weight: float) -> float:
    mine = DATA[RANK::RANKS]
    return sum(2 * x * (weight * x - y) for x, y in mine) / len(mine)


def send(stream, value) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def lead(steps: int) -> float:
    """Rank 0: wait for the others, then add up what they send, step by step."""
    with socket.create_server(("", MASTER[1]), backlog=RANKS) as server:
        peers = [server.accept()[0].makefile("rw") for _ in range(RANKS - 1)]
    weight = 0.0
    print(f"{RANKS} ranks are here")
    for step in range(1, steps + 1):
        gradients = [gradient(weight), *(json.loads(peer.readline()) for peer in peers)]
        weight -= 0.01 * sum(gradients) / RANKS
        for peer in peers:
            send(peer, weight)
        print(f"step {step}  weight {weight:.4f}")
    return weight


def follow(steps: int) -> None:
    """Every other rank: send a gradient, get the new weight."""
    stream = connect().makefile("rw")
    weight = 0.0
    for step in range(1, steps + 1):
        send(stream, gradient(weight))
        weight = json.loads(stream.readline())
        print(f"step {step}  weight {weight:.4f}")


def connect(patience: float = 60.0) -> socket.socket:
    """A connection to rank 0, which may start a little later, and whose name may take a moment to be known."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection(MASTER, timeout=10)
        except OSError as error:
            if time.monotonic() > deadline:
                raise
            print(f"rank 0 is not there yet ({error})")
            time.sleep(0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps
    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    if RANK > 0:
        follow(steps)
    else:
        weight = lead(steps)
        (outputs / "ranks.json").write_text(json.dumps({"ranks": RANKS, "weight": weight}) + "\n")


if __name__ == "__main__":
    main()
