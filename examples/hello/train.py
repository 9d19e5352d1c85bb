"""Fits a line to ten points by gradient descent, with the standard library only."""

import argparse
import json
import os
from pathlib import Path

POINTS = [(x / 10, 3 * x / 10 + 1) for x in range(10)]


def train(epochs: int, lr: float) -> dict[str, float]:
    """Slope, intercept and mean squared error after so many passes over the points."""
    slope = intercept = loss = 0.0
    for epoch in range(1, epochs + 1):
        for x, y in POINTS:
            error = slope * x + intercept - y
            slope -= lr * error * x
            intercept -= lr * error
        loss = sum((slope * x + intercept - y) ** 2 for x, y in POINTS) / len(POINTS)
        print(f"epoch {epoch}  loss {loss:.4f}")
    return {"slope": slope, "intercept": intercept, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.1)
    arguments = parser.parse_args()
    print(f"run {os.environ.get('STOKER_JOB', 'outside of stoker')}")
    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    (outputs / "model.json").write_text(json.dumps(train(arguments.epochs, arguments.lr), indent=2) + "\n")


if __name__ == "__main__":
    main()
