"""A combiner as a process of its own, without a reducer, and light streams that speak its wire: for its parts alone.

What the combiner does is the platform's own code; what stands for clients and the reducer is as light as can be, so
that it does not hide what the combiner costs.
"""
