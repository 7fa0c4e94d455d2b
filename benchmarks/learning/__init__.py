"""Small learning tasks, trained in this process: to see what a choice does to what is learned.

What goes between clients and combiner goes through fedn's own code, without processes and network.
"""
