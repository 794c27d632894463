"""What `esis doctor` says: of the files of a workflow, of this machine, of the installation. Uses no other room.

Whether a failing worker fails its task is found by trying the template without starting a program (`trial`), also
inside of the shells that it starts (`model/inner_shells`); where that tells nothing, the form of the lines gives notes
(`worker_status`).
"""
