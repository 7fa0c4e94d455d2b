"""The round engine: one asyncio loop in a thread of its own that keeps links to combiners and runs sessions.

What a round is lives here; what a REST request or a page is does not. Choices are made by the plan, by
`fedn.scheduling` and by `fedn.aggregation`; what must last goes through the stores.
"""
