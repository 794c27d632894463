"""Tables of tasks: `collect` joins parameters, states and results, `formats` writes them, `plot` draws them.

Columns are known once all tasks were read, so rows are kept on disk until then (`frame`); memory doesn't grow with the
number of tasks times columns. `rows` are what `esis status --tasks` shows.
"""
