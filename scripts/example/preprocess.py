#!/usr/bin/python3
"""Split the digits data set into standardised training and test tables."""
import os

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

digits = load_digits(as_frame=True)
train_x, test_x, train_y, test_y = train_test_split(
    digits.data, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
scaler = StandardScaler().fit(train_x)

os.makedirs("data", exist_ok=True)
for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
    table = pd.DataFrame(scaler.transform(x), columns=x.columns)
    table["digit"] = y.to_numpy()
    table.to_csv(f"data/{name}.csv", index=False, float_format="%.6g")
    print(f"data/{name}.csv: {len(table)} images of {x.shape[1]} pixels")
