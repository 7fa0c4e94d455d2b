"""Tier 1: who belongs to the federation, what it trains, and the trail of its models; REST API, pages and metrics.

The round engine lives in `engine` and talks to combiners; everything else here serves requests and keeps records.
Nothing of a combiner's or client's work lives here.
"""
