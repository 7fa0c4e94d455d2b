"""What people want to see and no record of the federation keeps: who left or was turned away and why, when each client
did what in the latest rounds, how busy the programs are. All of it bounded, in memory, and nothing is decided by it.
"""
