"""Boosted trees that tell flowers apart."""

import argparse

import lightgbm as lgbm
import pandas as pd
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

parser = argparse.ArgumentParser()
parser.add_argument("--iris-csv", required=True)
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--boosting", default="gbdt")
arguments = parser.parse_args()

table = pd.read_csv(arguments.iris_csv)
kinds = LabelEncoder().fit_transform(table.pop("species"))
train_x, test_x, train_y, test_y = train_test_split(table, kinds, test_size=0.3, random_state=42)
model = lgbm.LGBMClassifier(
    boosting_type=arguments.boosting, learning_rate=arguments.learning_rate, n_estimators=16, num_leaves=8, verbose=-1
).fit(train_x, train_y)
print(f"accuracy {accuracy_score(test_y, model.predict(test_x)):.3f}")

model.booster_.save_model("outputs/model.txt")
