"""Rules that look at all updates at once (medians, Krum …): each has its own module. Pure: where updates wait is given.

Not here: rules that add up (fedn.aggregation).
"""
