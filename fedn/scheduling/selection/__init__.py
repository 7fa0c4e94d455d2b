"""Who takes part in a round: selectors, each in its own module, found through the entry points `fedn.selectors`.

Pure. Not here: how many must answer (the quorum), and when a round is over (fedn.scheduling.base).
"""
