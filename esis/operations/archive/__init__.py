"""Pack a run for others, and check what somebody packed.

`contents` chooses the files, `writer` writes them reproducibly (sorted names, fixed times), `crate` describes them as a
Workflow Run RO-Crate, `anonymous` takes out who and where, `reader` reads archives and directories alike without
unpacking, and `verify` compares every checksum.
"""
