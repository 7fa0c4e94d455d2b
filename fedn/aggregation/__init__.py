"""How models become one: rules, the sum they share, and the checks that an update must pass. Pure: no I/O, no clock.

Not here: who is asked and when (fedn.scheduling), and who calls this (the combiner and the reducer).
"""
