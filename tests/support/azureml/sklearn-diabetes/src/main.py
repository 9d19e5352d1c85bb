"""A linear model of a disease's course; the model goes into a named output."""

import argparse
import os

import joblib
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

parser = argparse.ArgumentParser()
parser.add_argument("--diabetes-csv", required=True)
parser.add_argument("--model", required=True)
arguments = parser.parse_args()

table = pd.read_csv(arguments.diabetes_csv)
features, target = table.drop(columns="target"), table["target"]
print(f"r2 {cross_val_score(LinearRegression(), features, target).mean():.3f}")

model = LinearRegression().fit(features, target)
joblib.dump(model, os.path.join(arguments.model, "model.joblib"))
