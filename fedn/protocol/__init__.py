"""What is said: frozen types of tasks, updates, rounds, ledger, trail, REST payloads, and the errors with their codes.

No I/O, no transport, no framework lives here; every other package may import this one, and it imports none of them.
"""
