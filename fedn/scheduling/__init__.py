"""Who works when: the cohort of a round, schedulers and their step budgets. Pure functions and policies, no I/O.

A scheduler is found by its name through the entry points `fedn.schedulers`.
"""
