"""Tasks that wait or run: which of them are meant, and what is told of those that never began.

What is chosen is what was there when Slurm was asked. A part of what ends as a whole is refused; nobody is signalled,
and no job cancelled, that isn't certainly the run's.
"""
