"""Make a run's directory: checks, snapshot, parameter generator, script, setup script. Nothing is submitted here.

The snapshot is made aside and renamed into place together with its lock, so that of several builders one wins
(`prepare`); large includes were copied while they were hashed (`ahead`, beside the rooms); what a killed build left is
judged before it is removed (`interrupted`). The directory counts as a run once state.json says so.
"""
