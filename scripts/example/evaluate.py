#!/usr/bin/python3
"""Measure model.pkl on data/test.csv and write metrics.json."""
import json
import pickle

import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix

table = pd.read_csv("data/test.csv")
with open("model.pkl", "rb") as f:
    model = pickle.load(f)
predicted = model.predict(table.drop(columns="digit"))
metrics = {
    "trees": model.n_estimators,
    "accuracy": round(accuracy_score(table["digit"], predicted), 4),
    "confusion": confusion_matrix(table["digit"], predicted).tolist(),
}
with open("metrics.json", "w") as f:
    json.dump(metrics, f, indent=1)
print(f"metrics.json: accuracy {metrics['accuracy']} with {metrics['trees']} trees")
