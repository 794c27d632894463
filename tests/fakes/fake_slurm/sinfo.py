"""The fake sinfo: one line per partition."""

from __future__ import annotations

import re

from .options import UsageError, parse, table, words
from .program import emit, fail
from .store import Store

SHORT = table(
    "a=all e=exact h=noheader l=long M=clusters N=Node n=nodes o=format p=partition r=responding "
    "R=list-reasons s=summarize t=states V=version"
)
FLAGS = words("all exact list-reasons long Node noheader responding summarize version")
VALUED = words("clusters format nodes partition states")
TITLES = table(
    "P=PARTITION R=PARTITION a=AVAIL l=TIMELIMIT D=NODES t=STATE T=STATE N=NODELIST c=CPUS m=MEMORY "
    "G=GRES L=DEFAULTTIME"
)


def main(store: Store, arguments: list[str]) -> int:
    """List the partitions."""
    try:
        options = dict(parse("sinfo", arguments, SHORT, FLAGS, VALUED)[0])
    except UsageError as error:
        return fail(str(error))
    knobs = store.knobs()
    form = options.get("format", "%9P %.5a %.10l %.6D %.6t %N")
    wanted = options["partition"].split(",") if "partition" in options else knobs.partitions
    lines = [] if "noheader" in options else [TITLES]
    for name in [name for name in knobs.partitions if name in wanted]:
        default = "*" if name == knobs.partition else ""
        line = {"P": name + default, "R": name, "a": "up", "l": "infinite", "D": str(len(knobs.nodes))}
        line.update({"t": "idle", "T": "idle", "N": ",".join(knobs.nodes), "c": "4", "m": "1000", "G": "(null)"})
        lines.append({**line, "L": "n/a"})

    for line in lines:
        text, position = "", 0
        for match in re.finditer(r"%(\.?)(\d*)([A-Za-z])", form):
            value, width = line.get(match[3], ""), int(match[2] or 0)
            if width:
                value = value[:width].rjust(width) if match[1] else value[:width].ljust(width)
            text += form[position : match.start()] + value
            position = match.end()
        emit(text + form[position:] + "\n")
    return 0
