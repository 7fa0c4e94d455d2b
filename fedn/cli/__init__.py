"""The command line: `fedn …`. One module a noun, imported when its command is called, so that `fedn --help` is quick.

Commands parse, call and print; what they do lives in the packages below.
"""
