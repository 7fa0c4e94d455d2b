"""A whole federation of real processes on one machine: the programs that an operator would start, with embedded stores.

Starts, watches and ends them; what is shown of it is the command line's business. Nothing in the programs knows of it.
"""
