"""Workers' streams that go through the reducer, because a combiner does not reach the home of a group.

`desk` says who may have what; `streams` runs them; `stream` is one of them. Not here: anything of rounds. The streams
have connections of their own and a loop of their own: none of their bytes stands before a round's message.
"""
