"""A support vector machine that tells flowers apart."""

import argparse
import json
import os

import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--iris-csv", required=True)
parser.add_argument("--C", type=float, default=1.0)
parser.add_argument("--kernel", default="rbf")
arguments = parser.parse_args()

table = pd.read_csv(arguments.iris_csv)
features, kinds = table.drop(columns="species"), table["species"]
train_x, test_x, train_y, test_y = train_test_split(features, kinds, test_size=0.3, random_state=42)
scaler = StandardScaler().fit(train_x)
model = SVC(C=arguments.C, kernel=arguments.kernel).fit(scaler.transform(train_x), train_y)
accuracy = model.score(scaler.transform(test_x), test_y)
print(f"accuracy {accuracy:.3f}")

os.makedirs("outputs", exist_ok=True)
with open("outputs/scores.json", "w") as file:
    json.dump({"accuracy": accuracy, "rows": len(table)}, file)
