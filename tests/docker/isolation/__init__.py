"""Compute packages in real containers: the good ones train, the others fail for a reason and harm nothing."""
