"""`validate.py IN OUT.json` measures the model in file IN on what this site holds out."""

import json
import sys
from pathlib import Path

import numpy as np
from data import load_site, read_task, to_watts
from model import predict

from fedn.models.files import read_tensors

_, site = load_site(read_task()["client"])
predicted = predict(read_tensors(sys.argv[1]), site.features)
watts, wrong_by = to_watts(site.power), np.abs(to_watts(predicted) - to_watts(site.power))
result = {
    "loss": float(np.mean((predicted - site.power) ** 2) / 2),
    "error_watts": float(wrong_by.mean()),
    "relative_error": float((wrong_by / watts).mean()),
    "num_examples": len(site),
}
Path(sys.argv[2]).write_text(json.dumps(result))
