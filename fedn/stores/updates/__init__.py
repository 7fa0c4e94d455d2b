"""The update store of a combiner: each client's latest updates, for rules that go by them in later rounds.

It is private to one combiner, and never part of the trail: what is lost here costs contributions until the clients
train again, and nothing else. Not here: what a rule makes of the updates (fedn.aggregation.lineage).
"""
