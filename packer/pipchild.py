"""The child process in which pip resolves and downloads for one target.

Run by path, ``python pipchild.py DIRECTORY``, so that it imports pip and nothing of ours. ``DIRECTORY``
holds ``request.json`` and receives ``report.json``, ``wheels/`` and, when pip got to a source
distribution that nobody has built for the target, ``source/``.

pip chooses files for another Python when told to, but judges environment markers for the Python it runs
in (pypa/pip#11664), and meets a source distribution by running its build in that same Python. So a few
of its seams are replaced: the marker environment, the supported tags, the choice between wheels and
source distributions, and the look-up among wheels that were built before.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # our own directory: modules there must not answer to the standard library's names

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pip._internal.models.link import Link
    from pip._internal.req.req_install import InstallRequirement
    from pip._internal.utils.hashes import Hashes


class Request(TypedDict):
    """``request.json``."""

    arguments: list[str]
    """Of ``pip download``."""
    environment: dict[str, str]
    """Markers (PEP 508) of the target."""
    tags: list[str]
    """Wheel tags the target supports, best first."""
    built: dict[str, Built]
    """By ``Source.key``, what was built for the target."""
    preferred: list[str]
    """Real paths of directories; their wheels come before others of the same version."""
    kept: dict[str, str]
    """By normalised name, the version that comes before all others, if it may be chosen."""
    offered: bool
    """Report every file of the versions that are chosen."""
    locked: list[Locked]
    """Files that are fetched by their addresses, unless an index says that they were yanked."""


class Locked(TypedDict):
    """A file that somebody chose before."""

    name: str
    """Normalised, of its distribution."""
    file: str
    index: str
    """URL of the index that had it; "" where nobody noted it: those that are configured."""


class Built(TypedDict):
    """A wheel that stands in for a source."""

    wheel: str
    """Path."""
    sha256: str
    """Of the source distribution; "" for a directory."""


class Source(TypedDict):
    """A source distribution or project directory that must become a wheel before pip can go on."""

    key: str
    """SHA-256 of the file; its URL when the index tells no digest; a directory's real path."""
    path: str
    requirement: str
    """That led to it."""
    name: str
    """Normalised; "" where only its metadata would tell."""


class File(TypedDict):
    """A file of a distribution that pip saw on an index or in a directory."""

    name: str
    verdict: str
    """Name of pip's ``LinkType``: ``candidate``, ``platform_mismatch``, ``requires_python_mismatch``..."""
    requires_python: str
    yanked: str | None
    """Why, which may be nothing; ``None``: it was not."""


class Failed(TypedDict):
    """A file that was asked for by its address and cannot be had."""

    file: str
    why: str
    """``hash``, ``size``, ``gone``, ``yanked``, ``other`` (distribution), or else in a sentence."""
    found: str
    """SHA-256 or size of what is there; ``yanked``: why, which may be nothing; ``other``: what is wrong with it."""


class Offered(TypedDict):
    """A file of a version that was chosen, whatever it is for."""

    name: str
    url: str
    """Without user and password."""
    index: str
    """URL of the index that has it; "" for a directory of files."""
    hashes: dict[str, str]
    size: int | None
    uploaded: str
    """ISO 8601; "" where the index does not tell."""
    requires_python: str
    yanked: str | None


class Cause(TypedDict):
    """One of the requirements that cannot be met together."""

    name: str
    requirement: str
    needed_by: str
    """``name version`` of the distribution that requires it; "" when the user does."""


class Chosen(TypedDict):
    """A wheel pip decided for."""

    name: str
    version: str
    path: str
    source: str
    """File or directory name of what it was built from; "" when it came as a wheel."""
    requested: bool
    """The user asked for it, and not only something that depends on it."""
    extras: list[str]
    kind: str
    """``index``; or, where the user named it, ``archive`` or ``directory``."""
    url: str
    """Of what was chosen, the source distribution where a wheel was built; without user and password."""
    sha256: str
    """Of the source distribution; "" where there is none."""
    offered: list[Offered]


class Report(TypedDict):
    """``report.json``."""

    chosen: list[Chosen]
    """Dependencies before what depends on them."""
    source: Source | None
    """Where pip had to stop."""
    refused: str
    """Why a requirement is of no kind that can be packed; else ""."""
    causes: list[Cause]
    constraints: list[str]
    """Of the distributions in ``causes``."""
    files: dict[str, list[File]]
    """What there is of the distributions in ``causes`` and ``source``."""
    unreachable: list[str]
    """``URL: reason`` of the index pages that could not be read."""
    failed: Failed | None


def main(directory: str) -> int:
    """Do what ``request.json`` in ``directory`` asks; return pip's exit status."""
    from pip._internal.commands import create_command

    with open(os.path.join(directory, "request.json"), encoding="utf-8") as stream:
        request: Request = json.load(stream)
    report = Report(
        chosen=[], source=None, refused="", causes=[], constraints=[], files={}, unreachable=[], failed=None
    )
    order: list[tuple[InstallRequirement, str]] = []
    links: dict[str, list[Link]] = {}
    sizes: dict[str, int] = {}
    _judge_for_target(request["environment"], request["tags"])
    _prefer_wheels(request["preferred"], request["kept"])
    _take_built(request["built"])
    _stop_at_sources(report, os.path.join(directory, "source"))
    _note_order(order)
    _note_failure(report)
    _note_failed(report)
    _refuse_yanked(request["locked"], report)
    if request["offered"]:
        _note_links(links, sizes)
    wheels = os.path.join(directory, "wheels")
    status: int = create_command("download").main(["--dest", wheels, *request["arguments"]])
    if status == 0:
        built = {one["wheel"] for one in request["built"].values()}
        report["chosen"] = [_chosen(*one, wheels, built) for one in order]
        for chosen in report["chosen"]:
            seen = links.get(chosen["name"], [])
            chosen["offered"] = [
                _offered(link, chosen["name"], sizes) for link in seen if _version(link) == chosen["version"]
            ]
    with open(os.path.join(directory, "report.json"), "w", encoding="utf-8") as stream:
        report["files"] = _asked_for(report)
        json.dump(report, stream)
    return status


def _replace(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put the decorated function in the place of ``owner.name``; it gets the old one before its own arguments."""
    old = getattr(owner, name)

    def put(new: Callable[..., Any]) -> None:
        setattr(owner, name, lambda *args, **kwargs: new(old, *args, **kwargs))

    return put


def _judge_for_target(environment: dict[str, str], tags: list[str]) -> None:
    from pip._internal.models.target_python import TargetPython
    from pip._vendor.packaging import markers
    from pip._vendor.packaging.tags import Tag

    supported = [Tag(*tag.split("-")) for tag in tags]

    @_replace(markers, "default_environment")
    def default_environment(_old: object) -> dict[str, str]:
        return dict(environment)

    @_replace(TargetPython, "get_sorted_tags")
    def get_sorted_tags(_old: object, _self: TargetPython) -> list[Tag]:
        return supported


def _prefer_wheels(places: list[str], versions: dict[str, str]) -> None:
    """Let pip see source distributions, but only where no wheel meets what is required.

    Hiding them altogether would make pip go back, silently, to old releases of whatever depends on a
    distribution without wheels. Offering all of them would let it try one build after another when
    requirements conflict: only the newest that fits is offered, or the one whose version is kept.
    """
    from dataclasses import replace

    from pip._internal.index.package_finder import BestCandidateResult, PackageFinder
    from pip._internal.models.format_control import FormatControl

    @_replace(FormatControl, "get_allowed_formats")
    def get_allowed_formats(_old: object, _self: FormatControl, _name: str) -> frozenset[str]:
        return frozenset({"binary", "source"})

    @_replace(PackageFinder, "find_best_candidate")
    def find_best_candidate(
        old: Callable[..., BestCandidateResult], self: PackageFinder, *args: Any, **kwargs: Any
    ) -> BestCandidateResult:
        found = old(self, *args, **kwargs)
        fitting = found.applicable_candidates  # worst first
        wheels = [one for one in fitting if one.link.is_wheel]
        wheels.sort(key=lambda one: (one.version, one.link.is_file and _directory(one.link) in places))
        sources = [one for one in fitting if not one.link.is_wheel]
        kept = wheels if any(not one.link.is_yanked for one in wheels) else sources[-1:] or wheels
        version = versions.get(_canonical(fitting[0].name)) if fitting else None
        same = [one for one in wheels if str(one.version) == version]
        same = same or [one for one in sources if str(one.version) == version][-1:]
        kept = [*(one for one in kept if one not in same), *same]
        return replace(found, applicable_candidates=kept, best_candidate=kept[-1] if kept else None)


def _take_built(built: dict[str, Built]) -> None:
    """Stand in for pip's cache of wheels that it built itself."""
    from pip._internal.cache import CacheEntry
    from pip._internal.models.direct_url import DirectUrl
    from pip._internal.models.link import Link
    from pip._internal.models.wheel import Wheel
    from pip._internal.resolution.resolvelib.factory import Factory
    from pip._internal.utils.urls import path_to_url
    from pip._vendor.packaging.requirements import Requirement

    @_replace(Factory, "_make_base_candidate_from_link")
    def make_base_candidate_from_link(
        old: Callable[..., Any], self: Factory, link: Link, template: InstallRequirement, *args: Any, **kwargs: Any
    ) -> Any:
        found = None if template.req or link.is_vcs or link.is_wheel else built.get(_key(link))
        if found:  # a path has no name, and pip looks up only what has one
            template.req = Requirement(Wheel(os.path.basename(found["wheel"])).name)
        return old(self, link, template, *args, **kwargs)

    @_replace(Factory, "get_wheel_cache_entry")
    def get_wheel_cache_entry(_old: object, _self: Factory, link: Link, name: str | None) -> CacheEntry | None:
        if link.is_wheel or link.is_vcs:
            return None
        found = built.get(_key(link))
        if found is None:
            return None
        entry = CacheEntry(Link(path_to_url(found["wheel"])), persistent=True)
        if found["sha256"]:
            # A digest that the user demands is that of the source distribution, not of what we built.
            digests = {"hashes": {"sha256": found["sha256"]}}
            entry.origin = DirectUrl.from_json(json.dumps({"url": link.url_without_fragment, "archive_info": digests}))
        return entry


def _directory(link: Link) -> str:
    return os.path.dirname(os.path.realpath(link.file_path))


def _key(link: Link) -> str:
    """``Source.key`` of what ``link`` points to."""
    if link.is_existing_dir():
        return os.path.realpath(link.file_path)
    if link.hash_name == "sha256":
        return str(link.hash)
    return _sha256(link.file_path) if link.is_file else link.url_without_fragment


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _stop_at_sources(report: Report, directory: str) -> None:
    """Fetch a source distribution where pip would build it, report it and give up."""
    from pip._internal.exceptions import InstallationError
    from pip._internal.operations import prepare
    from pip._internal.operations.prepare import RequirementPreparer, get_file_url, get_http_url

    def refuse(requirement: InstallRequirement, why: str) -> NoReturn:
        report["refused"] = f"{requirement}: {why}"
        raise InstallationError(report["refused"])

    def fetch(preparer: RequirementPreparer, link: Link, hashes: Hashes) -> str:
        if link.is_file:
            found = get_file_url(link, hashes=hashes).path
        else:
            found = get_http_url(link, preparer._download, hashes=hashes).path
        os.makedirs(directory, exist_ok=True)
        return shutil.copy(found, os.path.join(directory, link.filename))

    @_replace(RequirementPreparer, "prepare_linked_requirement")
    def prepare_linked_requirement(
        old: Callable[..., Any], self: RequirementPreparer, req: InstallRequirement, parallel_builds: bool = False
    ) -> Any:
        link = req.link
        assert link is not None
        if link.is_wheel:
            return old(self, req, parallel_builds)
        if link.is_vcs:
            refuse(req, "a requirement from version control cannot be packed")
        hashes = self._get_linked_req_hashes(req)  # refuses a directory where digests are demanded
        path = link.file_path if link.is_existing_dir() else fetch(self, link, hashes)
        name = _canonical(req.req.name) if req.req else ""
        report["source"] = Source(key=_key(link), path=path, requirement=str(req.req or link.filename), name=name)
        raise InstallationError(f"{link} has to be built")

    @_replace(RequirementPreparer, "prepare_editable_requirement")
    def prepare_editable_requirement(_old: object, _self: RequirementPreparer, req: InstallRequirement) -> NoReturn:
        refuse(req, "an editable requirement cannot be packed")

    @_replace(prepare, "make_distribution_for_install_requirement")
    def make_distribution_for_install_requirement(old: Callable[..., Any], install_req: InstallRequirement) -> Any:
        if not install_req.is_wheel:  # the last gate: this Python never builds anything
            refuse(install_req, "the wheel built from it is not what is required")
        return old(install_req)


def _note_order(order: list[tuple[InstallRequirement, str]]) -> None:
    from pip._internal.resolution.resolvelib.resolver import Resolver

    @_replace(Resolver, "resolve")
    def resolve(old: Callable[..., Any], self: Resolver, *args: Any, **kwargs: Any) -> Any:
        requirements = old(self, *args, **kwargs)
        # The version is asked for now: what pip has only unpacked or read from an index is gone when it ends.
        order.extend((one, str(one.get_dist().version)) for one in self.get_installation_order(requirements))
        return requirements


def _note_failure(report: Report) -> None:
    """Keep what an error message needs and pip only logs, or does not tell at all."""
    from pip._internal.index import collector
    from pip._internal.index.package_finder import LinkEvaluator
    from pip._internal.resolution.resolvelib.factory import Factory
    from pip._internal.utils.misc import redact_auth_from_url

    @_replace(LinkEvaluator, "evaluate_link")
    def evaluate_link(old: Callable[..., Any], self: LinkEvaluator, link: Link) -> Any:
        verdict, detail = old(self, link)
        seen = File(
            name=link.filename, verdict=verdict.name, requires_python=link.requires_python or "",
            yanked=link.yanked_reason,
        )  # fmt: skip
        report["files"].setdefault(_canonical(self.project_name), []).append(seen)
        return verdict, detail

    @_replace(Factory, "get_installation_error")
    def get_installation_error(old: Callable[..., Any], self: Factory, e: Any, constraints: Any) -> Any:
        for requirement, parent in e.causes:
            needed_by = f"{parent.name} {parent.version}" if parent else ""
            name = requirement.project_name
            report["causes"].append(Cause(name=name, requirement=str(requirement), needed_by=needed_by))
            if name in constraints:
                report["constraints"].append(f"{name}{constraints[name].specifier}")
        return old(self, e, constraints)

    @_replace(collector, "_handle_get_simple_fail")
    def handle_get_simple_fail(old: Callable[..., Any], link: Link, reason: Any, meth: Any = None) -> None:
        if getattr(getattr(reason, "response", None), "status_code", None) != 404:
            report["unreachable"].append(f"{redact_auth_from_url(link.url_without_fragment)}: {reason}")
        old(link, reason, meth)


def _note_failed(report: Report) -> None:
    """Say of a file that was asked for by its address, not chosen from an index, why it cannot be had."""
    from pip._internal.exceptions import HashMismatch, MetadataInconsistent, NetworkConnectionError, UnsupportedWheel
    from pip._internal.operations.prepare import RequirementPreparer

    def failed(link: Link, error: BaseException) -> Failed:
        causes = [one for one in (error, error.__cause__, error.__context__) if one]
        statuses = [
            getattr(one.response, "status_code", 0) for one in causes if isinstance(one, NetworkConnectionError)
        ]
        found, why = "", str(getattr(error, "message", error))
        if isinstance(error, HashMismatch):
            found, why = error.gots["sha256"].hexdigest() if "sha256" in error.gots else "", "hash"
        elif isinstance(error, MetadataInconsistent | UnsupportedWheel):
            found, why = why, "other"
        elif {403, 404, 410}.intersection(statuses) or (link.is_file and not os.path.exists(link.file_path)):
            why = "gone"
        return Failed(file=link.filename, why=why, found=found)

    @_replace(RequirementPreparer, "prepare_linked_requirement")
    def prepare_linked_requirement(
        old: Callable[..., Any], self: RequirementPreparer, req: InstallRequirement, parallel_builds: bool = False
    ) -> Any:
        try:
            return old(self, req, parallel_builds)
        except Exception as error:
            if req.link is not None and req.user_supplied and report["source"] is None:
                report["failed"] = failed(req.link, error)
            raise


def _refuse_yanked(locked: list[Locked], report: Report) -> None:
    """Look files up that are asked for by their addresses; an index that does not answer says nothing of them."""
    from pip._internal.cli.req_command import RequirementCommand
    from pip._internal.exceptions import InstallationError
    from pip._internal.index.package_finder import PackageFinder
    from pip._internal.models.search_scope import SearchScope

    @_replace(RequirementCommand, "_build_package_finder")
    def build_package_finder(old: Callable[..., Any], self: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        finder: PackageFinder = old(self, options, *args, **kwargs)
        usual = finder.search_scope
        for one in () if options.no_index else locked:
            urls = [one["index"]] if one["index"] else usual.index_urls
            finder.search_scope = SearchScope.create(find_links=[], index_urls=urls, no_index=False)
            finder.find_all_candidates(one["name"])  # _note_failure notes what it sees
            for seen in report["files"].get(one["name"], ()):
                if seen["name"] == one["file"] and seen["yanked"] is not None:
                    report["failed"] = Failed(file=one["file"], why="yanked", found=seen["yanked"])
                    raise InstallationError(f"{one['file']} was yanked")
            if report["unreachable"]:
                break
        finder.search_scope = usual
        return finder


def _note_links(links: dict[str, list[Link]], sizes: dict[str, int]) -> None:
    """Keep all files that pip sees, by normalised name, and what it does not ask an index for: their sizes, by URL."""
    from pip._internal.index.package_finder import LinkEvaluator
    from pip._internal.models.link import Link

    @_replace(LinkEvaluator, "evaluate_link")
    def evaluate_link(old: Callable[..., Any], self: LinkEvaluator, link: Link) -> Any:
        verdict, detail = old(self, link)
        if verdict.name in ("candidate", "platform_mismatch", "requires_python_mismatch"):
            links.setdefault(_canonical(self.project_name), []).append(link)
        return verdict, detail

    @_replace(Link, "from_json")
    def from_json(old: Callable[..., Any], file_data: dict[str, Any], page_url: str) -> Any:
        link = old(file_data, page_url)
        if link is not None and isinstance(file_data.get("size"), int):
            sizes[link.url_without_fragment] = file_data["size"]
        return link


def _version(link: Link) -> str:
    """Read the version in a file's name; "" where there is none."""
    from pip._vendor.packaging.utils import parse_sdist_filename, parse_wheel_filename

    try:
        return str((parse_wheel_filename if link.is_wheel else parse_sdist_filename)(link.filename)[1])
    except ValueError:  # what it raises for names is such
        return ""


def _offered(link: Link, name: str, sizes: dict[str, int]) -> Offered:
    page = link.comes_from if isinstance(link.comes_from, str) else ""
    uploaded = getattr(link, "upload_time", None)  # pip before 26 does not tell
    index, _, project = page.rstrip("/").rpartition("/")
    return Offered(
        name=link.filename,
        url=_public(link.url_without_fragment),
        index=_public(index) if _canonical(project) == name else "",
        hashes=dict(link._hashes),
        size=sizes.get(link.url_without_fragment),
        uploaded=uploaded.isoformat() if uploaded else "",
        requires_python=link.requires_python or "",
        yanked=link.yanked_reason,
    )


def _public(url: str) -> str:
    """Take user and password from a URL."""
    from pip._internal.utils.misc import remove_auth_from_url

    return remove_auth_from_url(url)


def _canonical(name: str) -> str:
    from pip._vendor.packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _chosen(requirement: InstallRequirement, version: str, wheels: str, built: set[str]) -> Chosen:
    from pip._internal.models.link import Link

    link = requirement.link
    assert link is not None
    assert requirement.name is not None
    assert requirement.download_info is not None
    about = requirement.download_info.to_dict()  # as PEP 610 has it: the class is another since pip 26
    path, source, digest = os.path.join(wheels, link.filename), "", ""
    if link.is_file and link.file_path in built:
        path, source = link.file_path, Link(about["url"]).filename
        digest = about.get("archive_info", {}).get("hashes", {}).get("sha256", "")
    return Chosen(
        name=_canonical(requirement.name),
        version=version,
        path=path,
        source=source,
        requested=requirement.user_supplied,
        extras=sorted(map(_canonical, requirement.extras)),
        kind="directory" if "dir_info" in about else "archive" if requirement.is_direct else "index",
        url=_public(about["url"]),
        sha256=digest,
        offered=[],
    )


def _asked_for(report: Report) -> dict[str, list[File]]:
    """``files`` of the distributions that are talked about: an index lists thousands."""
    names = {cause["name"] for cause in report["causes"]}
    if report["source"]:
        names.add(report["source"]["name"])
    for name, seen in report["files"].items():
        if any(file["verdict"] == "upload_time_missing" for file in seen):
            names.add(name)
    return {name: seen for name, seen in report["files"].items() if name in names}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
