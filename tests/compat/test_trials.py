"""The kinds of workflows that 0.0.4's users have: workers written for its interface run unchanged, also here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.site import FakeSite, Workflow, generator, make_workflow

HEAD = """#!/usr/bin/env python3
import json, os, sys
import esis
from esis.checkpoint import checkpoint_facility

task = os.environ["SLURM_ARRAY_TASK_ID"]
with open(f"../parameters/parameters.{task}.json") as stream:
    parameters = json.load(stream)


class Generator:
    \"\"\"Take what the older generators of random numbers take.\"\"\"

    def __init__(self, seed):
        if isinstance(seed, int) and not 0 <= seed <= 2**32 - 1:
            raise ValueError("Seed must be between 0 and 2**32 - 1")
        self.seed = seed


def result(**values):
    with open(f"result.{task}.json", "w") as stream:
        json.dump(values, stream)


"""
# The run is called complete by its own worker.
CLAIM = """
with open("../__esis__/completed.state", "w") as stream:
    stream.write("1")
"""
PLAIN = (
    HEAD
    + """
facility = checkpoint_facility(1234)
name = f"thermalised{task}"
if not facility.has_checkpoint(name):
    made = facility.create_checkpoint(name)
    rng = Generator(made.get_seed_int())
    with open(made.get_file_name("configuration.txt"), "w") as stream:
        stream.write(f"{rng.seed} {made.get_seed()}")
    made.set_OK()
loaded = facility.load_checkpoint(name)
with open(loaded.get_file_name("configuration.txt")) as stream:
    result(read=stream.read(), workdir=checkpoint_facility.get_workdir())
"""
    + CLAIM
)
ITERATIVE = (
    HEAD
    + """
facility = checkpoint_facility("a text")
name = f"chain{task}"
if facility.iterative_checkpoint_is_finished(name):
    sys.exit("finished work was begun anew")
if facility.has_iterative_checkpoint(name):
    state = facility.open_iterative(name)
else:
    state = facility.create_iterative_checkpoint(name)
for i in range(state.get_iteration(), 6):
    rng = Generator(state.get_seed_int())
    with open(state.get_file_name("seeds"), "a") as stream:
        stream.write(f"{rng.seed} ")
    state.set_iteration(i + 1)
    if i == 2 and not os.path.exists(f"died.{task}"):
        open(f"died.{task}", "w").close()
        with open(state.get_latest("seeds"), "a") as stream:
            stream.write("half ")
            stream.flush()
            os.kill(os.getpid(), 9)
state.set_OK()
with open(state.get_latest("seeds")) as stream:
    result(seeds=stream.read().split(), iteration=state.get_iteration(),
           finished=facility.iterative_checkpoint_is_finished(name))
facility.set_run_OK()
"""
)
EXTERNAL = (
    HEAD
    + """
facility = checkpoint_facility(5, external_storage_path=parameters["storage"])
made = facility.create_checkpoint("large" + task)
with open(made.get_file_name("field", store_external=True), "w") as stream:
    stream.write("large " + task)
with open(made.get_file_name("note"), "w") as stream:
    stream.write("small")
made.set_OK()
facility.set_run_OK()
result(storage=made.get_external_storage_path(), field=made.get_file_name("field", True))
"""
)
READER = (
    HEAD
    + """
other = checkpoint_facility.open_external(parameters["plain"])
loaded = other.load_checkpoint("thermalised0")
with open(loaded.get_file_name("configuration.txt")) as stream:
    plain = stream.read()
chain = checkpoint_facility.open_external(parameters["chain"]).open_iterative("chain1")
large = checkpoint_facility.open_external(parameters["large"]).load_checkpoint("large0")
with open(large.get_file_name("field", store_external=True)) as stream:
    field = stream.read()
try:
    checkpoint_facility.open_external(parameters["plain"] + ".nowhere")
except FileNotFoundError as error:
    missing = type(error).__name__
try:
    other.load_checkpoint("nothing")
except ValueError as error:
    nothing = type(error).__name__
result(plain=plain, iteration=chain.get_iteration(), seed=chain.get_seed(), field=field, missing=missing,
       nothing=nothing)
"""
    + CLAIM
)
REQUIRING = """#!/usr/bin/env python3
import json, os
required = json.loads(os.environ["ESIS2_REQUIREMENTS"])
for n in range(2):
    with open(f"parameters.{n}.json", "w") as stream:
        json.dump(required, stream)
print(1)
"""
STORING = """#!/usr/bin/env python3
import json
for n in range(2):
    with open(f"parameters.{n}.json", "w") as stream:
        json.dump({"storage": STORAGE}, stream)
print(1)
"""


def set_up(site: FakeSite, name: str, worker: str, generator_text: str = "") -> Workflow:
    """Write the files, and set them up as 0.0.4's users do."""
    flow = make_workflow(site, name, 2, worker=worker, generator_text=generator_text or generator(2))
    (flow.directory / "wf.esis.json").unlink()
    flow.esis("setup", "setup.sh", "template.sh", "worker.sh", "gen.py").ok()
    return flow


def bring_up(site: FakeSite, flow: Workflow, where: str, *command: str) -> None:
    flow.esis(*(command or ("run",)), *(["--local"] if where == "local" else []))
    if where == "slurm":
        site.slurm.run()


def results(flow: Workflow) -> list[dict[str, object]]:
    return [json.loads((flow.only_run() / f"cwd/result.{task}.json").read_text()) for task in (0, 1)]


def chain_seed(iteration: int, name: str = "chain1") -> int:
    return sum(map(ord, "a text")) + sum(map(ord, name)) + iteration


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_worker_with_plain_checkpoints(site: FakeSite, where: str) -> None:
    """It hands the seed to a generator of 32 bits, and writes 1 into completed.state itself."""
    flow = set_up(site, "plain", PLAIN)
    bring_up(site, flow, where)
    assert flow.states() == {"done": 2}
    run = flow.only_run()
    for task, found in enumerate(results(flow)):
        name = f"thermalised{task}"
        assert found == {"read": f"{1234 + sum(map(ord, name))} 1234{name}", "workdir": str(run)}
        assert (run / "__checkpoints__" / name / "checkpoint.ok").read_text() == "1\n"
    flow.esis("run").ok()
    assert site.submissions() == (1 if where == "slurm" else 0)


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_worker_that_goes_on_where_it_was_killed(site: FakeSite, where: str) -> None:
    """Each iteration has a seed of its own, none twice; finished work isn't begun anew."""
    flow = set_up(site, "chain", ITERATIVE)
    bring_up(site, flow, where)
    assert flow.states() == {"failed": 2}
    bring_up(site, flow, where, "resubmit")
    assert flow.states() == {"done": 2}
    for task, found in enumerate(results(flow)):
        expected = [str(chain_seed(i, f"chain{task}")) for i in range(6)]
        assert found == {"seeds": expected, "iteration": 6, "finished": True}
    meta = json.loads((flow.only_run() / "__checkpoints__/chain1/checkpoint.meta.json").read_text())
    assert (meta["__type__"], meta["baseseed"], meta["iteration"]) == ("IterativeCheckpoint", "a text", 6)


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_chain_that_reads_checkpoints_of_its_requirements(site: FakeSite, tmp_path: Path, where: str) -> None:
    """By wf.esis2.json, names in ESIS2_REQUIREMENTS, a facility on another run, and large files on a scratch."""
    storage = tmp_path / "scratch"
    flows = {
        "plain": set_up(site, "plain", PLAIN),
        "chain": set_up(site, "chain", ITERATIVE),
        "large": set_up(site, "large", EXTERNAL, STORING.replace("STORAGE", repr(str(storage)))),
    }
    reader = set_up(site, "reader", READER, REQUIRING)
    for name in flows:
        reader.esis("require", f"../{name}/wf.esis2.json", name).ok()
    bring_up(site, flows["chain"], where)
    bring_up(site, flows["chain"], where, "resubmit")
    bring_up(site, reader, where, "dependency", "wf.esis2.json")
    assert reader.states() == {"done": 2}, reader.esis("errors").stdout
    for found in results(reader):
        assert found == {
            "plain": f"{1234 + sum(map(ord, 'thermalised0'))} 1234thermalised0",
            "iteration": 6,
            "seed": "a textchain16",
            "field": "large 0",
            "missing": "NoSuchPlace",
            "nothing": "CheckpointTrouble",
        }
    large = flows["large"].only_run()
    assert sorted(path.read_text() for path in (storage / large.name).rglob("field")) == ["large 0", "large 1"]
    assert (large / "__checkpoints__/large0/external").is_symlink()
    assert [found["storage"] for found in results(flows["large"])] == [str(storage)] * 2
    before = site.submissions()
    reader.esis("dependency", *(["--local"] if where == "local" else [])).ok()
    assert site.submissions() == before
