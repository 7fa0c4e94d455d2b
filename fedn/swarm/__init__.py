"""Many light clients in few processes, over the real protocol: to load a federation, and to measure it.

A light client enrols, attaches, receives, answers and comes back as a site's client does; what it trains is made up.
Not here: anything that the servers would treat in another way than a site's own client.
"""
