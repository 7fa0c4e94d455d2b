"""`train.py IN OUT` trains the model in file IN on this site's measurements and writes it to OUT.

Reads these parameters of the session's plan: epochs (5), batch_size (32), learning_rate (0.1).
"""

import json
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from data import load_site, read_task
from model import gradients

from fedn.models.files import read_tensors, write_tensors

task = read_task()
parameters = task["parameters"]
epochs, batch_size = int(parameters.get("epochs", 5)), int(parameters.get("batch_size", 32))
learning_rate = np.float32(parameters.get("learning_rate", 0.1))
site, _ = load_site(task["client"])
weights = read_tensors(sys.argv[1])
# The task's own seed: a repeated task gives the same update.
draw = np.random.default_rng(task["seed"])
cuts = range(batch_size, len(site), batch_size)
batches = [batch for _ in range(epochs) for batch in np.split(draw.permutation(len(site)), cuts)][: task["step_budget"]]
losses = []
started = perf_counter()
for batch in batches:
    loss, slopes = gradients(weights, site.features[batch], site.power[batch])
    losses.append(loss)
    for name, slope in slopes.items():
        weights[name] = weights[name] - learning_rate * slope
milliseconds = (perf_counter() - started) * 1000
write_tensors(sys.argv[2], weights)
result = {
    "num_examples": len(site),
    "num_steps": len(batches),
    "ms_per_step": milliseconds / len(batches),
    "ms_per_epoch": milliseconds / len(batches) * (len(cuts) + 1),
    "metrics": {"train_loss": float(np.mean(losses))},
}
Path(os.environ["FEDN_RESULT_FILE"]).write_text(json.dumps(result))
