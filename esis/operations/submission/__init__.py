"""Hand tasks to a scheduler, once: intent on disk, the call, the answer on disk.

`choice` says which tasks, `arrays` cuts them into what Slurm takes, `script` renders what is submitted, `submit` sends
it and finds out what became of it where the answer is lost, `feed` lets a job submit what a limit left over.
"""
