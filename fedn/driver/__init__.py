"""One experiment from one file: starts what it is told to start, trains, watches, ends, and says where the time went.

Not here: how tiers are started as processes (fedn.sandbox), when a session has trained enough (its plan; the reducer
decides), and how times are computed (fedn.protocol.rest.statistics).
"""
