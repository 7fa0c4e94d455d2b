"""What is asked for: the validated session plan, compute packages, options found by name, and the programs' settings.

Rules, schedulers and helpers are found through entry points, never by import. Nothing here talks to a network.
"""
