"""Writes the model to start from into the file that is named: each time the same bytes."""

import sys

from learner import MnistLearner

from fedn.models.files import write_tensors

write_tensors(sys.argv[1], MnistLearner().get_weights())
