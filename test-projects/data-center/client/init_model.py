"""`init_model.py OUT` writes the model to start from: each time the same bytes."""

import sys

from model import new_weights

from fedn.models.files import write_tensors

write_tensors(sys.argv[1], new_weights(seed=0))
