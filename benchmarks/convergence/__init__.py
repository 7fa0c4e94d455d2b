"""A convergence study: what schedulers and algorithms do to learning, in real federations on real data.

Here live the sites' code (`clients/`, a compute package), one federation that trains one session after another
(`federation`), and the two parts: `schedulers` on sites of different speeds, `methods` on sites of different data.
Not here: how fast the platform is, which the other benchmarks measure.
"""
