"""What an update weighs in a mean: scaling factors, each in its own module, by the entry points `fedn.scaling_factors`.

Pure. Not here: what is done with the weights (the rules).
"""
