"""Tier 3: the client, which trains where the data is.

The agent (enrolment, assignment, the stream to a combiner, spool, downloads) never imports the site's own code: that
runs in a worker process (`worker`) or in the commands of a compute package. No server code lives here.
"""
