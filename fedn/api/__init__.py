"""The REST client of the reducer: used by combiners, clients, the command line and by programs (`fedn.APIClient`).

What is said lives in `fedn.protocol.rest`; here is only how it is carried. No server code lives here.
"""
