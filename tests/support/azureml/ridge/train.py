"""Ridge regression, as scripts for version 1 train it: the model goes below ./outputs."""

import argparse

import joblib
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=0.5)
alpha = parser.parse_args().alpha

random = np.random.default_rng(0)
x = random.normal(size=(80, 3))
y = x @ [1.0, -2.0, 0.5] + random.normal(scale=0.1, size=80)
model = Ridge(alpha=alpha).fit(x[:60], y[:60])
print(f"mse {mean_squared_error(y[60:], model.predict(x[60:])):.3f}")

joblib.dump(model, f"outputs/ridge_{alpha:.2f}.pkl")
