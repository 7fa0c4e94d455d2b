"""Writes the model to start from, a forest without trees, into the file that is named: each time the same bytes."""

import sys

from learner import DigitsForest

from fedn.models.files import write_tensors

write_tensors(sys.argv[1], DigitsForest().get_weights())
