"""What is learned: named tensors, their bytes on the wire, their digest, and the helpers of frameworks.

Not here: how models become one (fedn.aggregation), where they last (fedn.stores), how they travel (fedn.network).
"""
