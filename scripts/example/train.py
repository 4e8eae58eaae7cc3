#!/usr/bin/python3
"""Fit a random forest to data/train.csv and keep it in model.pkl."""
import pickle
import sys

import pandas as pd
from sklearn.ensemble import RandomForestClassifier

trees = int(sys.argv[1])
table = pd.read_csv("data/train.csv")
model = RandomForestClassifier(n_estimators=trees, random_state=0)
model.fit(table.drop(columns="digit"), table["digit"])
with open("model.pkl", "wb") as f:
    pickle.dump(model, f)
print(f"model.pkl: {trees} trees fitted to {len(table)} images")
