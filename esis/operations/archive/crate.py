"""Describe an archive as a Workflow Run RO-Crate: who ran what, when, with what, and how it ended.

Profiles: RO-Crate 1.1, Workflow RO-Crate 1.0, Process Run Crate 0.5, Workflow Run Crate 0.5. Directories are described
as a whole, so that the description of a hundred thousand tasks is as long as that of one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from types import ModuleType
from typing import Any

from esis.errors import BadInput
from esis.model.fingerprint import read_status, status_lines
from esis.model.requirements import base_name
from esis.model.workdir import PREFIX, RunDir
from esis.model.workflow import DEFAULT_NAME, ROLES, Workflow
from esis.operations.archive.writer import EXTRA
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, describe_failures
from esis.records.provenance import Provenance
from esis.typed import LATEST

_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_SAID_OF = {
    "setupscript": "setup script: prepares the working directory, once",
    "param_generator": "parameter generator: writes the parameter sets",
    "sbatchtemplate": "sbatch template: what Slurm is asked for",
    "workerscript": "worker script: the work, one task for each parameter set",
}
_ORCID = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])\Z")
_AUTHOR = re.compile(r"([^<>]+?)\s*(?:<([^<>\s]+)>)?\s*\Z")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_NO_LICENSE = "No licence is stated; ask the authors before you use it"


@dataclass(frozen=True)
class Author:
    """Name an author, with an ORCID or another address on the web where there is one."""

    name: str
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Author:
        """Read `Name`, `Name <ORCID>` or `Name <https://…>`. Raises BadInput."""
        match = _AUTHOR.match(text.strip())
        address = match.group(2) if match is not None else None
        orcid = _ORCID.match(address) if address is not None else None
        if match is None or (address is not None and orcid is None and not _is_web(address)):
            raise BadInput(
                f"--author {text!r}: expected a name, perhaps with an ORCID or an address on the web",
                "like 'Ada Lovelace <0000-0002-1825-0097>'",
            )
        return cls(match.group(1), f"https://orcid.org/{orcid.group(1)}" if orcid is not None else address)


@dataclass(frozen=True)
class About:
    """Say what the files can't tell."""

    title: str | None = None
    description: str | None = None
    authors: tuple[Author, ...] = ()
    license: str | None = None  # an SPDX identifier, or an address on the web
    date: str | None = None  # of publication, YYYY-MM-DD

    def checked(self) -> About:
        """Return itself. Raises BadInput for a licence or a date that is none."""
        if self.license is not None and not (_is_web(self.license) or _SPDX.match(self.license)):
            raise BadInput(
                f"--license {self.license!r}: expected an SPDX identifier like CC-BY-4.0, or an address on the web"
            )
        if self.date is not None:
            try:
                if not _DAY.match(self.date):
                    raise ValueError
                datetime.strptime(self.date, "%Y-%m-%d")
            except ValueError:
                raise BadInput(f"--date {self.date!r}: expected a day like 2026-03-01") from None
        return self


@dataclass(frozen=True)
class Subject:
    """Hold what is described."""

    run: RunDir
    workflow: Workflow
    evidence: Evidence
    status: RunStatus
    provenance: Provenance  # as far as it may be told

    @property
    def workflow_name(self) -> str:
        """Return the name of the workflow file that the run was made from."""
        return base_name(self.provenance.workflow_file or DEFAULT_NAME)


def title_of(subject: Subject, about: About) -> str:
    """Return the title; by default it says which run this is."""
    return about.title or f"ESIS run {subject.run.label} of {subject.workflow_name}"


def description_of(subject: Subject, about: About) -> str:
    """Return the description; by default it counts the tasks."""
    count = len(subject.status.tasks)
    return about.description or (
        f"A parameter scan of {count} task{'s' if count != 1 else ''} ({subject.status.summary()}), run by ESIS: "
        f"scripts, parameters, results and records"
    )


def need_rocrate() -> ModuleType:
    """Return the module that makes RO-Crates. Raises BadInput naming the extra that has it."""
    try:
        from rocrate import rocrate
    except ImportError:
        raise BadInput("esis archive needs the Python package rocrate", EXTRA) from None
    module: ModuleType = rocrate
    return module


def metadata(subject: Subject, about: About) -> bytes:
    """Return ro-crate-metadata.json."""
    need_rocrate()
    crate = _Crate(subject, about).build()
    return (json.dumps(crate.metadata.generate(), indent=2, sort_keys=True) + "\n").encode("ascii")


class _Crate:
    """Put the entities together."""

    def __init__(self, subject: Subject, about: About) -> None:
        self._crate = need_rocrate().ROCrate(version="1.1")
        self._subject = subject
        self._about = about
        self._hashed = dict(status_lines(read_status(subject.run)))

    def build(self) -> Any:
        """Return the crate."""
        from rocrate.model import ComputationalWorkflow

        crate, run, workflow = self._crate, self._subject.run, self._subject.workflow
        scripts = [self._script(workflow.script(role), role, _SAID_OF[role]) for role in ROLES]
        language = self._other(
            "#esis-workflow",
            "ComputerLanguage",
            name="ESIS workflow file",
            version="0.0.4",
            description="JSON that names the four scripts of a parameter scan, what they include and what they require",
        )
        main = crate.add(
            ComputationalWorkflow(
                crate,
                dest_path=self._private(run.workflow_definition.name),
                properties={
                    "name": self._subject.workflow_name,
                    "version": run.digest,
                    "encodingFormat": "application/json",
                    "programmingLanguage": language,
                    "hasPart": scripts,
                    "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
                    "description": "the workflow file as it was when the run was built; its version is the hash of "
                    "all files",
                    "softwareRequirements": _single(self._software()),
                },
            )
        )
        action = self._action(main)
        profiles = [
            self._other(address, "CreativeWork", name=name, version=version)
            for address, (name, version) in _PROFILES.items()
        ]
        root = crate.root_dataset
        root["name"] = title_of(self._subject, self._about)
        root["description"] = description_of(self._subject, self._about)
        root["datePublished"] = self._about.date or (self._end() or "1970-01-01")[:10]
        root["identifier"] = f"{PREFIX}{run.digest}"
        root["license"] = self._license()
        root["conformsTo"] = profiles
        root["mainEntity"] = main
        root["mentions"] = action
        if self._about.authors:
            root["author"] = _single([self._person(author) for author in self._about.authors])
        crate.metadata["conformsTo"] = [
            {"@id": "https://w3id.org/ro/crate/1.1"},
            {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
        ]
        self._files(action)
        return crate

    def _action(self, main: Any) -> Any:
        subject = self._subject
        run, status = subject.run, subject.status
        inputs = [
            self._directory(path.name, text)
            for path, text in (
                (run.parameters, "one parameter set for each task"),
                (run.includes, "files that the scripts use"),
            )
        ]
        inputs += [
            self._other(f"#{value}", "CreativeWork", name=f"required run {PREFIX}{value}", identifier=value)
            for value in sorted({self._hashed.get(stored, "") for stored in subject.workflow.requires})
        ]
        outputs = [
            self._directory(path.name, text)
            for path, text in (
                (run.results, "what the tasks exported"),
                (run.cwd, "the tasks' working directory: logs, chosen files"),
            )
        ]
        facts: dict[str, Any] = {
            "name": f"Run {run.label}",
            "description": f"{len(status.tasks)} tasks: {status.summary()}",
            "instrument": main,
            "object": inputs,
            "result": outputs,
            "actionStatus": f"http://schema.org/{'Completed' if status.complete else 'Failed'}ActionStatus",
        }
        if not status.complete:
            facts["error"] = describe_failures(status) or status.summary()
        if status.started is not None:
            facts["startTime"] = _moment(status.started)
        end = self._end()
        if end is not None:
            facts["endTime"] = end
        user = subject.provenance.user
        if user:
            facts["agent"] = self._other(
                f"#user-{user}", "Person", name=user, description="the account that made the run"
            )
        return self._other(f"#{PREFIX}{run.digest}", "CreateAction", **facts)

    def _files(self, action: Any) -> None:
        """Describe single files that a reader may look for."""
        run = self._subject.run
        for name, kind, text in (
            (run.readme.name, "text/plain", "what this is, and how to rerun and check it"),
            (run.script.name, "text/x-shellscript", "the sbatch script of the latest submission"),
            (run.manifest.name, "text/plain", "SHA-256 of every file, for sha256sum -c"),
            (self._private(run.wf_status.name), "text/plain", "the text whose SHA-256 is the hash of the run"),
            (self._private(run.provenance.name), "application/json", "who built the run, when, where, with what"),
            (self._private(run.task_table.name), "text/csv", "the state of every task"),
        ):
            self._crate.add_file(
                dest_path=name, properties={"name": name, "encodingFormat": kind, "description": text, "about": action}
            )
        self._directory(self._private(run.submissions.name), "one record for each submission")
        self._directory(self._private(run.tasks.name), "one record for each attempt at a task, its state in the name")

    def _software(self) -> list[Any]:
        told = self._subject.provenance
        found = [
            self._other(
                "#esis",
                "SoftwareApplication",
                name="ESIS",
                softwareVersion=str(told.esis),
                description="Easy SLURM Isolated Scanner: parameter scans on Slurm clusters",
            )
        ]
        if told.slurm:
            found.append(
                self._other(
                    "https://slurm.schedmd.com/",
                    "SoftwareApplication",
                    name="Slurm",
                    url="https://slurm.schedmd.com/",
                    softwareVersion=told.slurm,
                    description="workload manager",
                )
            )
        return found

    def _script(self, stored: str, tag: str, text: str) -> Any:
        name = base_name(stored)
        return self._crate.add_file(
            dest_path=name,
            properties={
                "@type": ["File", "SoftwareSourceCode"],
                "name": name,
                "encodingFormat": "text/plain",
                "version": self._hashed.get(tag, ""),
                "description": f"{text}; its version is the SHA-256 of its bytes",
            },
        )

    def _directory(self, name: str, text: str) -> Any:
        return self._crate.add_dataset(dest_path=name, properties={"name": name, "description": text})

    def _license(self) -> Any:
        given = self._about.license
        if given is None:
            return self._other("#license", "CreativeWork", name="No licence", description=_NO_LICENSE)
        address = given if _is_web(given) else f"https://spdx.org/licenses/{given}"
        return self._other(address, "CreativeWork", name=given, url=address)

    def _person(self, author: Author) -> Any:
        return self._other(author.address or f"#{author.name.replace(' ', '-')}", "Person", name=author.name)

    def _private(self, name: str) -> str:
        return f"{self._subject.run.private.name}/{name}"

    def _end(self) -> str | None:
        last = self._subject.status.last_word()
        return _moment(last) if last is not None else None

    def _other(self, address: str, kind: str, **properties: Any) -> Any:
        from rocrate.model.contextentity import ContextEntity

        return self._crate.add(ContextEntity(self._crate, address, properties={"@type": kind, **properties}))


def _single(values: list[Any]) -> Any:
    """Return the only value of a list; RO-Crate wants no lists of one."""
    return values[0] if len(values) == 1 else values


def _moment(seconds: float) -> str:
    # The name of a record may tell of any time.
    return datetime.fromtimestamp(int(min(max(seconds, 0), LATEST)), timezone.utc).isoformat(timespec="seconds")


def _is_web(text: str) -> bool:
    return re.match(r"https?://[^\s<>\"]+\Z", text) is not None
