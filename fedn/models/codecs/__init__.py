"""Fewer bytes: what happens to tensors on their way, as chains of steps that are undone at the other end.

One module a codec, found by name in the entry-point group `fedn.codecs`; `chain` puts them together, `encode` and
`payload` are the two ends. Everything that reads an encoded payload trusts nothing in it.

Not here: which chain a session uses and whether it makes sense there (fedn.plan.chains), and where a client keeps what
its last updates left out (fedn.client).
"""
