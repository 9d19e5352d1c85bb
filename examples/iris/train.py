"""Grows a forest on the iris data, a few trees per epoch, and keeps model and report in ./outputs."""

import argparse
import json
import pickle
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()

    iris = load_iris()
    train_x, test_x, train_y, test_y = train_test_split(iris.data, iris.target, test_size=0.3, random_state=7)
    model = RandomForestClassifier(n_estimators=1, max_depth=arguments.depth, warm_start=True, random_state=7)
    accuracy = 0.0
    for epoch in range(1, arguments.epochs + 1):
        model.n_estimators = epoch * 4
        model.fit(train_x, train_y)
        accuracy = accuracy_score(test_y, model.predict(test_x))
        print(f"epoch {epoch}  trees {model.n_estimators}  accuracy {accuracy:.3f}")

    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    (outputs / "model.pkl").write_bytes(pickle.dumps(model))
    report = {"accuracy": accuracy, "confusion": confusion_matrix(test_y, model.predict(test_x)).tolist()}
    (outputs / "report.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
