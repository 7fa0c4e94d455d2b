"""How bytes move: frames, TLS, join strings, tokens, identities, and the generated wire contract.

Nothing here knows what a round is; nothing here decides.
"""
