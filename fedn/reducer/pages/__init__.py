"""Plain pages for people, and the addresses that users of FEDn know. Everything on them is escaped; none has a script.

What they show and do goes through the same parts as the REST API; no rule of the federation lives here.
"""
