"""The combiner's parts, one at a time, without a network."""
