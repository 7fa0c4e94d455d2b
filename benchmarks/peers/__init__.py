"""Other systems at the same workload, each in an environment of its own, beside ours in one run.

`flower_cell.py`, `nvflare_cell.py` and `nvflare_parts.py` run in those environments, where fedn is not installed: they
import the system itself, NumPy and the modules of this package that need no more.
"""
