"""Server optimizers: what becomes of the mean of the updates, found by the entry points `fedn.optimizers`.

Pure. Each has its own module, whose state over rounds is arrays like the model's (`state`). Not here: the mean itself.
"""
