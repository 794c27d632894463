"""What is known of a run and its tasks; imports no other room.

`evidence` reads the run's directory, `sightings` sorts what squeue and sacct say by task (`readings` finds out what a
job works on that no submission names), `judge` hears the three witnesses (`on_machine`, `packs` and `words` help
it), `look` asks Slurm, `status` counts. Judging writes nothing; `keep` alone writes down what Slurm forgets. Of a run
that is marked as complete `status` tells without the others, so that they need not be loaded.

A task is judged in this order, the first that knows it decides:

1. It waits or runs in the queue. In a job of packs its own record may be ahead of that. Where a job may hold it, and
   nobody knows, it is unknown, unless it is active for another reason.
2. A local run has given it back: unsubmitted.
3. A record of its latest submission. Slurm's verdict of failure outranks an exit status of 0, if the attempt began; and
   a cut-off job of packs gives back what it hadn't come to, unless its script leaves no ends at all. A record without
   an end is Slurm's to explain; if nobody can, the task is lost once the grace period is over.
4. No record: Slurm's word on the job; then absence, which proves nothing before the grace period is over, and never
   where the question failed.

Invariants: a failed query is never an empty answer; `done` needs a record or Slurm's word, `lost` an answer without
the job; `unknown` whatever else. Verdicts are found for groups of tasks of which all witnesses say the same, so that
a million tasks cost as much as their kinds: `Judge.groups` has to agree with `Judge.verdict`, and a test says so.
"""
