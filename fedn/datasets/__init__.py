"""Data for trying a federation: images in idx files, where to find them, and how examples are dealt out to sites.

Code of compute packages may use it at every client, since a client always has its own fedn. Nothing of a
federation's working is in here, and no framework: only NumPy, and the protocol's errors. `digits` alone asks for
scikit-learn, which has that data set in it.
"""
