"""The model: what a workflow, a run, a task and a requirement are, without any command or scheduler."""
