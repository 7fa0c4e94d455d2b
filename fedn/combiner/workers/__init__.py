"""Worker groups: chunks handed from worker to worker, spooled within bounds while a receiver is slow or away.

A group meets at one combiner, its home. `pair` and `group` are the home's state and belong to its loop; `stream` serves
one worker; `forward` hands a worker's stream on to a home elsewhere, which `peers` reaches by one
of the `ways`. What a frame means is the workers' own business.
"""
