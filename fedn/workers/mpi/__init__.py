"""Workers as an MPI job that is launched here: the launcher's side, and what runs in each rank.

How the ranks then talk is `fedn.workers.backends.mpi`, which knows no launcher: mpiexec by hand is as good.
"""
