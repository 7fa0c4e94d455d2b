"""The tests, as packages, so that files in different folders may share a name. `tests.support` has what they share."""
