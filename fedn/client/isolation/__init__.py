"""Where the code that trains runs: as a subprocess, or in a locked-down container. Both look the same from outside.

`places` says what a place to run in can do; `processes` and `containers` are the two kinds of place. Not here: what is
run, and what its results mean (`fedn.client.runtime_learner`, `fedn.client.runtime_package`).
"""
