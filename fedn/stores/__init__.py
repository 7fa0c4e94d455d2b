"""Where things last: model stores (objects by digest) and state stores (documents, the trail, events, the lease).

Two small protocols in `base`; one module a back end. A store keeps what it is given and decides nothing.
"""
