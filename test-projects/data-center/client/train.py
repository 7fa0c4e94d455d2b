"""`train.py IN OUT` trains the model in file IN on this site's measurements and writes it to OUT.

Reads these parameters of the session's plan: epochs (5), batch_size (32), learning_rate (0.1).
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from data import load_site, read_task
from model import gradients

from fedn.client.batches import Batches
from fedn.models.files import read_tensors, write_tensors

task = read_task()
parameters = task["parameters"]
epochs, batch_size = int(parameters.get("epochs", 5)), int(parameters.get("batch_size", 32))
learning_rate = np.float32(parameters.get("learning_rate", 0.1))
site, _ = load_site(task["client"])
weights = read_tensors(sys.argv[1])
# Their order comes from the task's own seed: a repeated task gives the same update.
batches = Batches(len(site), batch_size, epochs, step_budget=task["step_budget"], seed=task["seed"])
losses = []
for batch in batches:
    loss, slopes = gradients(weights, site.features[batch], site.power[batch])
    losses.append(loss)
    for name, slope in slopes.items():
        weights[name] = weights[name] - learning_rate * slope
write_tensors(sys.argv[2], weights)
result = {**batches.metadata(), "metrics": {"train_loss": float(np.mean(losses))}}
Path(os.environ["FEDN_RESULT_FILE"]).write_text(json.dumps(result))
