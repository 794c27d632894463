"""Hand tasks to a scheduler, once: intent on disk, the call, the answer on disk.

`choice` says which tasks, `arrays` cuts them into what Slurm takes, `script` renders what is submitted, `submit` writes
the intent, `send` makes the calls, `settle` finds out what became of those without an answer, `feed` lets a job submit
what a limit left over.
"""
