"""Tier 2: the gRPC server that clients attach to; it executes rounds and sums up updates.

A combiner obeys: the reducer decides who trains, when a round closes and what the quorum is. It holds no
credentials of the stores, and nothing on its disk outlives its process but its identity. Everything here runs on
one asyncio loop; only folding, sealing a result and spool files go to threads.
"""
