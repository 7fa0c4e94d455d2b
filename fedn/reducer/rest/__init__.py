"""The REST API, version 1: one blueprint a subject. Handlers translate between HTTP and the reducer's parts.

No rule of the federation lives here: who may call what stands in `fedn.network.access`, what happens in the parts.
"""
