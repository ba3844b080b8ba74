"""From a job file to jobs in the order they can run in: everything that can be wrong is said before anything runs."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..files.paths import check_names, printable
from ..wording import listed, shown
from .drafts import Draft
from .job_file import JobEntry, JobFile, Text, read_job_file
from .jobs import Job, Jobs
from .matrix import check_number, file_names, filled, instance_name, instances
from .order import in_order
from .verbs import CHECKPOINT, OUT, Flag, Role, Verb, Verbs
from .writers import Writers, output_path

_REFERENCE = re.compile(r"\$\{\s*([\w-]+)\s*\.\s*([\w-]+)\s*\}", re.ASCII)
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


def read_jobs(path: Path | str, verbs: Verbs, folder: Path | str | None = None) -> Jobs:
    """Read a job file and check all of it.

    Args:
        path: The job file.
        verbs: What may be run; `engine.cli.verbs()` gives the command line's.
        folder: Folder of the outputs, instead of the file's own.

    Raises:
        InputError: For anything in the file that cannot be run, with its line.
    """
    path = Path(os.path.abspath(path))
    file = read_job_file(path)
    check_number(file)
    return _Plan(file, verbs, Path(os.path.abspath(folder)) if folder else _folder_of(file)).jobs()


def _folder_of(file: JobFile) -> Path:
    text = file.folder.text
    if re.match(r"~?[/\\]|[A-Za-z]:", text) or ".." in re.split(r"[/\\]", text):
        raise InputError(
            "CLU-021",
            f"{file.at(file.folder.line)}: the folder '{printable(text)}' is not below the job file's own. Name one "
            "that is, or give "
            "another place with --folder.",
        )
    check_names(text)
    return file.path.parent / text


class _Plan:
    def __init__(self, file: JobFile, verbs: Verbs, folder: Path) -> None:
        self.file, self.verbs, self.folder = file, verbs, folder
        self.verb_of = {entry.name: self._verb(entry) for entry in file.jobs.values()}
        for entry in file.jobs.values():
            self._check_flags(entry, self.verb_of[entry.name])
            self._check_processes(entry, self.verb_of[entry.name])
        self.file_names = {entry.name: file_names(entry) for entry in file.jobs.values()}
        # instances of a job by their values of some names
        self.groups: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[Draft]]] = {}
        self.drafts: dict[str, list[Draft]] = {}
        taken: set[str] = set()
        for entry in file.jobs.values():
            self.drafts[entry.name] = []
            for values in instances(entry):
                # long values may begin alike
                name = stem = instance_name(entry, values)
                number = 2
                while name in taken:
                    name, number = f"{stem} ({number})", number + 1
                taken.add(name)
                self.drafts[entry.name].append(Draft(name, entry, values))

    def jobs(self) -> Jobs:
        # outputs first: references and paths of other jobs name them
        for draft in self._all():
            self._place_outputs(draft)
        for draft in self._all():
            self._fill(draft)
        writers = Writers(self.file, self.folder, list(self._all()))
        for draft in self._all():
            self._find_inputs(draft, writers)
        found = [self._finished(draft) for draft in self._all()]
        ordered = tuple(in_order(found, self.file.path.name))
        return Jobs(self.file.path, self.folder, ordered, writers.written)

    def _all(self) -> Iterator[Draft]:
        for drafts in self.drafts.values():
            yield from drafts

    def _verb(self, entry: JobEntry) -> Verb:
        name = entry.run.text
        if name not in self.verbs:
            near = difflib.get_close_matches(name, self.verbs, 1)
            hint = f"did you mean '{near[0]}'?" if near else "`python -m engine --help` lists the verbs."
            raise InputError(
                "CLU-022",
                f"{self.file.at(entry.run.line)}: '{printable(name)[:60]}' is not a verb that a job can run; {hint}",
            )
        return self.verbs[name]

    def _check_flags(self, entry: JobEntry, verb: Verb) -> None:
        for key, given in entry.flags.items():
            if key not in verb.flags:
                near = difflib.get_close_matches(key, verb.flags, 1)
                hint = (
                    f"did you mean '{near[0]}'?"
                    if near
                    else f"`python -m engine {verb.name} --help` lists them."
                )
                raise InputError(
                    "CLU-023",
                    f"{self.file.at(given.line)}: {verb.name} has no flag '{printable(key)[:60]}'; {hint}",
                )
            if missing := next((text for text in given.texts if text.is_missing), None):
                raise InputError(
                    "CLU-024",
                    f"{self.file.at(missing.line)}: '{key}' has no value. Write one, or remove the line.",
                )
            if not given.texts or (given.is_list and not verb.flags[key].takes_several):
                raise InputError(
                    "CLU-025",
                    f"{self.file.at(given.line)}: '{key}' takes "
                    f"{'at least one value' if not given.texts else 'one value, not a list'}. "
                    "For one job per value, use 'matrix'.",
                )
        for key, flag in verb.flags.items():
            if flag.is_required and key not in entry.flags:
                raise InputError(
                    "CLU-026",
                    f"{self.file.at(entry.line)}: the job '{entry.name}' needs '{key}' for {verb.name}. Add it.",
                )

    def _check_processes(self, entry: JobEntry, verb: Verb) -> None:
        if entry.processes > 1 and not verb.shares_views:
            able = listed([name for name, each in self.verbs.items() if each.shares_views])
            raise InputError(
                "CLU-053",
                f"{self.file.at(entry.line)}: {verb.name} runs on one process, and the job '{entry.name}' has processes: "
                f"{entry.processes}. Remove it; several can share the work of {able}.",
            )

    def _place_outputs(self, draft: Draft) -> None:
        names = self.file_names[draft.entry.name]
        for key, given in draft.entry.flags.items():
            role = self.verb_of[draft.entry.name].flags[key].role
            if role in (Role.OUTPUT, Role.KEPT):
                text = given.texts[0]
                name = filled(text, draft.values, self.file, lambda n, value: names[n][value])
                path = output_path(self.file.at(text.line), self.folder, name)
                draft.written[key] = (path, text.line)
                if role is Role.OUTPUT:
                    draft.outputs[key] = path
        if OUT in draft.outputs and CHECKPOINT not in draft.entry.flags:
            path, line = draft.written[OUT]
            for ending in self.verb_of[draft.entry.name].checkpoints:
                draft.written[ending] = (path.with_suffix(ending), line)

    def _fill(self, draft: Draft) -> None:
        """The words of a job's command, and what its references name."""
        verb = self.verb_of[draft.entry.name]
        draft.words.append(verb.name)
        for key, given in draft.entry.flags.items():
            flag = verb.flags[key]
            if flag.is_switch:
                is_on = self._switch(given.texts[0], draft)
                draft.settings[key] = ("true" if is_on else "false",)
                draft.words += [flag.name] if is_on else [flag.off] if flag.off else []
                continue
            values = [value for text in given.texts for value in self._values(text, flag, key, draft)]
            if flag.takes_several:
                draft.words += [flag.name, *values]
            elif len(values) == 1:
                # a value may begin with a hyphen
                draft.words.append(f"{flag.name}={values[0]}")
            else:
                raise InputError(
                    "CLU-031",
                    f"{self.file.at(given.line)}: '{given.texts[0].text}' names {len(values)} outputs, and '{key}' "
                    "takes one. Add to this "
                    "job's matrix what the other one has more.",
                )
            if flag.role in (Role.KEPT, Role.CACHE):
                # where work is kept changes nothing of what is made
                draft.settings.pop(key)
        for text in draft.entry.after:
            for other in self._referred(text, text.text, draft):
                draft.waits[other.name] = None
        refused = verb.check(draft.words[1:])
        if refused is not None:
            by_name = {verb.flags[key].name: given.line for key, given in draft.entry.flags.items()}
            raise InputError(
                "CLU-032",
                f"{self.file.at(by_name.get(refused.flag, draft.entry.line))}: {draft.name}: {refused.reason}",
            )

    def _switch(self, text: Text, draft: Draft) -> bool:
        value = filled(text, draft.values, self.file).strip().lower()
        if value not in (*_YES, *_NO):
            raise InputError(
                "CLU-033",
                f"{self.file.at(text.line)}: {shown(value)} is given where true or false is expected.",
            )
        return value in _YES

    def _values(self, text: Text, flag: Flag, key: str, draft: Draft) -> list[str]:
        """What one text of a flag stands for on the command line."""
        if flag.role in (Role.OUTPUT, Role.KEPT):
            path, _ = draft.written[key]
            draft.settings[key] = (path.relative_to(self.folder).as_posix(),)
            return [str(path)]
        match = _REFERENCE.fullmatch(text.text.strip())
        if match is not None:
            paths = [
                self._output_of(other, match[2], text)
                for other in self._referred(text, match[1], draft, match[2])
            ]
            names = tuple(path.relative_to(self.folder).as_posix() for path in paths)
            draft.settings[key] = (*draft.settings.get(key, ()), *names)
            return [str(path) for path in paths]
        if "${" in text.text:
            raise InputError(
                "CLU-034",
                f"{self.file.at(text.line)}: '{printable(text.text)[:80]}' is not a reference. Write ${{job.flag}} "
                "alone, such as "
                "${train.out}.",
            )
        value = filled(text, draft.values, self.file)
        draft.settings[key] = (*draft.settings.get(key, ()), value)
        if flag.role is Role.VALUE:
            return [value]
        if not value.strip():
            raise InputError(
                "CLU-035",
                f"{self.file.at(text.line)}: the path of '{key}' is empty. Write one, or remove the line.",
            )
        check_names(value)
        path = Path(os.path.normpath(self.file.path.parent / value))
        if flag.role is Role.INPUT:
            draft.paths.append((path, text.line))
        return [str(path)]

    def _output_of(self, other: Draft, flag: str, text: Text) -> Path:
        key = flag.replace("-", "_")
        if key not in other.outputs:
            there = listed(list(other.outputs)) or "none"
            raise InputError(
                "CLU-036",
                f"{self.file.at(text.line)}: '{other.entry.name}' has no output '{printable(flag)[:60]}'; it has {there}.",
            )
        return other.outputs[key]

    def _referred(self, text: Text, name: str, draft: Draft, flag: str = "") -> list[Draft]:
        """The instances of a job that another one names: those with the same values of the names that both have."""
        if name not in self.drafts:
            near = difflib.get_close_matches(name, self.drafts, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"the file has {listed(list(self.drafts))}."
            raise InputError(
                "CLU-037", f"{self.file.at(text.line)}: there is no job '{printable(name)[:60]}'; {hint}"
            )
        shared = tuple(n for n in self.file.jobs[name].matrix if n in draft.values)
        if (name, shared) not in self.groups:
            group = self.groups[name, shared] = {}
            for other in self.drafts[name]:
                group.setdefault(tuple(other.values[n] for n in shared), []).append(other)
        found = self.groups[name, shared].get(tuple(draft.values[n] for n in shared), [])
        if not found:
            wanted = ", ".join(f"{n} {shown(draft.values[n])}" for n in shared)
            raise InputError(
                "CLU-038",
                f"{self.file.at(text.line)}: '{draft.name}' needs '{name}' with {wanted}, which its matrix does not "
                "have. Use the same "
                "values in both.",
            )
        if flag:
            draft.feeds.update(dict.fromkeys(other.name for other in found))
        return found

    def _find_inputs(self, draft: Draft, writers: Writers) -> None:
        """Inputs that are named by their path: another job's output, or files that must be there."""
        for path, line in draft.paths:
            owners, is_theirs = writers.owners(path)
            draft.feeds.update(dict.fromkeys(owner.name for owner in owners))
            if not is_theirs:
                draft.inputs.append(path)
            if not owners and not os.path.exists(path):
                raise InputError(
                    "CLU-039",
                    f"{self.file.at(line)}: {self._as_written(path)} is not there, and no job makes it. Paths are relative to "
                    "the job file's folder, without ~ and $NAME; outputs of jobs are named ${job.out}.",
                )

    def _finished(self, draft: Draft) -> Job:
        entry = draft.entry
        return Job(
            name=draft.name,
            entry=entry.name,
            values=draft.values,
            words=tuple(draft.words),
            settings=draft.settings,
            outputs=tuple(draft.outputs.values()),
            inputs=tuple(draft.inputs),
            feeds=tuple(draft.feeds),
            needs=tuple({**draft.feeds, **draft.waits}),
            gpus=entry.gpus,
            cpus=entry.cpus,
            retries=entry.retries,
            where=self.file.at(entry.line),
            processes=entry.processes,
        )

    def _as_written(self, path: Path) -> str:
        """The path of an input, relative to the job file where it lies below it."""
        here = self.file.path.parent
        return printable(path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path))
