"""Change tools and templates while the system runs. The use cases behind the admin API.

A definition is checked first, outside of any transaction: a proof about rules
may take half a second. Then one short transaction holds the catalog's lock,
sees to it that nothing moved since, stores the version and writes the audit
row. Versions are added, never changed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.principal import DEFAULT_TENANT
from maruntime.domain.template import TemplateBody
from maruntime.domain.tool import ToolDescriptor, ToolKind
from maruntime.errors import (
    InUse,
    MaruntimeError,
    NameTaken,
    TemplateNotFound,
    ToolNotFound,
    ToolUnchecked,
    VersionConflict,
    VersionNotFound,
)
from maruntime.rules.lint import Problem
from orchestrator.catalog import editions
from orchestrator.catalog.editions import ADMIN, Edition, Entry, Shelf
from orchestrator.catalog.repository import CatalogRepository, ToolCheck
from orchestrator.catalog.seeding import stored_template, stored_tool
from orchestrator.catalog.template_checks import check_template, name_problems, named_tools, needed_tools
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tool_checks import body_of, check_tool
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.catalog.validation import differences, merged, refuse
from orchestrator.persistence.audit import Actor, AuditTrail
from orchestrator.persistence.transaction import transaction

_USERS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Expected:
    """What a caller believes to be changing; None where it does not say."""

    latest_version: int | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A thing with one of its versions, as it stands after what was asked for."""

    entry: Entry
    edition: Edition
    warnings: tuple[Problem, ...] = ()
    check: ToolCheck | None = None
    used_by: list[dict[str, Any]] = field(default_factory=list)


def tag_of(entry: Entry) -> str:
    """Changes whenever the thing does: for `ETag` and `If-Match`."""
    return f'"{entry.latest_version}.{entry.active_version or 0}"'


class ToolAuthoring:
    """Tools."""

    def __init__(self, maker: async_sessionmaker[AsyncSession], catalog: ToolCatalog) -> None:
        self._maker = maker
        self._catalog = catalog

    async def page(self, *, limit: int, after: str | None, active: bool | None) -> list[Shown]:
        """Tools by name."""
        async with transaction(self._maker) as tx:
            found = await editions.tools(tx).page(limit=limit, after=after, active=active)
        return [Shown(entry, edition) for entry, edition in found]

    async def get(self, name: str, version: int | None = None) -> Shown:
        """A tool with its active version, its latest one when none is active, or the one asked for.

        Raises:
            ToolNotFound: no such tool.
            VersionNotFound: no such version of it.
        """
        async with transaction(self._maker) as tx:
            return await self._shown(tx, name, version)

    async def versions(self, name: str, *, limit: int, before: int | None) -> tuple[Entry, list[Edition]]:
        """The versions of a tool, newest first."""
        async with transaction(self._maker) as tx:
            shelf = editions.tools(tx)
            entry = _there(await shelf.entry(name), ToolNotFound, name)
            return entry, await shelf.editions(entry, limit=limit, before=before)

    async def create(self, actor: Actor, given: Mapping[str, Any], *, activate: bool) -> Shown:
        """Make a tool; a Python tool waits for a worker's check before it is active.

        Raises:
            DefinitionInvalid: something is wrong with it.
            NameTaken: there is a tool of that name.
        """
        tool, problems = await asyncio.to_thread(check_tool, given)
        refuse(problems)
        assert tool is not None, "what has no error could be read"
        async with self._changing() as tx:
            shelf = editions.tools(tx)
            if await shelf.entry(tool.name) is not None:
                raise NameTaken(f"There is a tool {tool.name!r} already.", param="name")
            entry = await shelf.create(tool.name)
            await self._add(tx, actor, "tool.created", entry, tool, base=None, activate=activate)
            return await self._shown(tx, tool.name, 1, tuple(problems))

    async def change(
        self, actor: Actor, name: str, changes: Mapping[str, Any], *, activate: bool, expected: Expected
    ) -> Shown:
        """Make a version that is the active one (else the latest one) with the given fields changed.

        Changes that change nothing make no version.

        Raises:
            ToolNotFound, DefinitionInvalid, VersionConflict: what their names say.
        """
        seen = await self.get(name)
        base = _descriptor(seen.entry, seen.edition)
        _expect(seen.entry, expected)
        # A field is replaced as a whole: half of a schema is none.
        given = {key: value for key, value in {**body_of(base), **changes}.items() if value is not None}
        tool, problems = await asyncio.to_thread(check_tool, {**given, "name": changes.get("name", name)}, base=base)
        if "name" in changes:
            problems.insert(0, Problem("not_changeable", "name", "The name of a tool is for good."))
        refuse(problems)
        assert tool is not None, "what has no error could be read"
        async with self._changing() as tx:
            entry = _unmoved(await editions.tools(tx).entry(name), seen.entry)
            if body_of(tool) == body_of(base):
                return await self._shown(tx, name, seen.edition.version, tuple(problems))
            await self._add(tx, actor, "tool.changed", entry, tool, base=seen.edition, activate=activate)
            return await self._shown(tx, name, entry.latest_version + 1, tuple(problems))

    async def activate(self, actor: Actor, name: str, version: int, *, expected: Expected) -> Shown:
        """Let steps from now on use this version.

        Raises:
            ToolNotFound, VersionNotFound, VersionConflict: what their names say.
            ToolUnchecked: a Python tool that no worker could load yet.
        """
        async with self._changing() as tx:
            shown = await self._shown(tx, name, version)
            _expect(shown.entry, expected)
            if shown.edition.body.get("kind") == ToolKind.PYTHON.value:
                _refuse_unchecked(name, version, shown.check)
            if shown.entry.active_version != version:
                await _activate(tx, editions.tools(tx), actor, "tool", shown.entry, version)
            return await self._shown(tx, name, version)

    async def deactivate(self, actor: Actor, name: str, *, expected: Expected) -> Shown:
        """Take a tool out of use; its versions stay.

        Raises:
            ToolNotFound, VersionConflict: what their names say.
            InUse: active templates cannot work without it.
        """
        async with self._changing() as tx:
            entry = _there(await editions.tools(tx).entry(name), ToolNotFound, name)
            _expect(entry, expected)
            users = await CatalogRepository(tx).active_templates_that_need(name)
            if users and entry.active_version is not None:
                listed = ", ".join(users[:10]) + (f" and {len(users) - 10} more" if len(users) > 10 else "")
                raise InUse(f"Active templates need the tool {name!r}: {listed}.", used_by=users[:_USERS_SHOWN])
            if entry.active_version is not None:
                await _activate(tx, editions.tools(tx), actor, "tool", entry, None)
            return await self._shown(tx, name, None)

    async def unchecked(self, *, limit: int = 20) -> list[ToolDescriptor]:
        """The versions of Python tools that wait for a worker to try to load them."""
        async with transaction(self._maker) as tx:
            return await CatalogRepository(tx).unchecked_tools(limit=limit)

    async def note_check(self, version_id: str, *, problem: str | None, by: str) -> None:
        """Note what a worker found; a version that it could load becomes active if that was wanted.

        Raises:
            VersionNotFound: no such version.
        """
        async with self._changing() as tx:
            catalog, shelf = CatalogRepository(tx), editions.tools(tx)
            named, asked = await catalog.tool_name_of(version_id), await catalog.check(version_id)
            if named is None or asked is None:
                raise VersionNotFound
            name, version = named
            await catalog.save_check(version_id, problem=problem, by=by)
            actor = Actor(DEFAULT_TENANT, by)
            found = {"version": version, "check": "passed" if problem is None else "failed", "problem": problem}
            AuditTrail(tx).record(actor, "tool.checked", f"tool:{name}", None, found)
            entry = _there(await shelf.entry(name), ToolNotFound, name)
            # A version that was saved since has its own wish.
            if problem is None and asked.activates and entry.latest_version == version:
                await _activate(tx, shelf, actor, "tool", entry, version)

    async def _add(
        self,
        tx: AsyncSession,
        actor: Actor,
        action: str,
        entry: Entry,
        tool: ToolDescriptor,
        *,
        base: Edition | None,
        activate: bool,
    ) -> None:
        shelf, catalog = editions.tools(tx), CatalogRepository(tx)
        added = await shelf.add(entry, body_of(tool), origin=ADMIN, created_by=actor.principal_id)
        may_be_active = True
        if tool.kind is ToolKind.PYTHON:
            former = await catalog.check(base.id) if base is not None and _calls_the_same(base, tool) else None
            may_be_active = former is not None and former.state == "passed"
            if base is not None and may_be_active:
                await catalog.inherit_check(added.id, base.id)
            else:
                await catalog.ask_check(added.id, activates=activate)
        active = added.version if activate and may_be_active else entry.active_version
        if active != entry.active_version:
            await shelf.activate(entry, active)
        before = None if base is None else _said(base, entry.active_version)
        AuditTrail(tx).record(actor, action, f"tool:{entry.name}", before, _said(added, active))

    async def _shown(
        self, tx: AsyncSession, name: str, version: int | None, warnings: tuple[Problem, ...] = ()
    ) -> Shown:
        shelf, catalog = editions.tools(tx), CatalogRepository(tx)
        entry = _there(await shelf.entry(name), ToolNotFound, name)
        wanted = version or entry.active_version or entry.latest_version
        edition = _version_there(await shelf.edition(entry, wanted), name, wanted)
        users = await catalog.templates_that_name(name, limit=_USERS_SHOWN)
        return Shown(entry, edition, warnings, await catalog.check(edition.id), users)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncSession]:
        async with transaction(self._maker) as tx:
            await editions.locked(tx)
            yield tx
        self._catalog.forget()


class TemplateAuthoring:
    """Templates."""

    def __init__(
        self, maker: async_sessionmaker[AsyncSession], catalog: TemplateCatalog, *, default_template: str
    ) -> None:
        self._maker = maker
        self._catalog = catalog
        self._default_template = default_template

    async def page(self, *, limit: int, after: str | None, active: bool | None) -> list[Shown]:
        """Templates by name."""
        async with transaction(self._maker) as tx:
            found = await editions.templates(tx).page(limit=limit, after=after, active=active)
        return [Shown(entry, edition) for entry, edition in found]

    async def get(self, name: str, version: int | None = None) -> Shown:
        """A template with its active version, its latest one when none is active, or the one asked for.

        Raises:
            TemplateNotFound, VersionNotFound: what their names say.
        """
        async with transaction(self._maker) as tx:
            return await self._shown(tx, name, version)

    async def versions(self, name: str, *, limit: int, before: int | None) -> tuple[Entry, list[Edition]]:
        """The versions of a template, newest first."""
        async with transaction(self._maker) as tx:
            shelf = editions.templates(tx)
            entry = _there(await shelf.entry(name), TemplateNotFound, name)
            return entry, await shelf.editions(entry, limit=limit, before=before)

    async def create(self, actor: Actor, name: object, given: Mapping[str, Any], *, activate: bool) -> Shown:
        """Make a template.

        Raises:
            DefinitionInvalid: something is wrong with it.
            NameTaken: there is a template of that name.
        """
        body, problems = await self._checked(given, activating=activate, also=list(name_problems(name)))
        assert isinstance(name, str), "the name was checked"
        async with self._changing() as tx:
            shelf = editions.templates(tx)
            if await shelf.entry(name) is not None:
                raise NameTaken(f"There is a template {name!r} already.", param="name")
            entry = await shelf.create(name)
            await self._add(tx, actor, "template.created", entry, body, base=None, activate=activate)
            return await self._shown(tx, name, 1, problems)

    async def add_version(
        self,
        actor: Actor,
        name: str,
        changes: Mapping[str, Any],
        *,
        base_version: int | None,
        activate: bool,
        expected: Expected,
    ) -> Shown:
        """Make a version that is a copy of another one (the active one unless told) with changes.

        Raises:
            TemplateNotFound, VersionNotFound, DefinitionInvalid, VersionConflict: what their names say.
        """
        seen = await self.get(name, base_version)
        _expect(seen.entry, expected)
        given = merged(stored_template(seen.edition.body), changes)
        body, problems = await self._checked(given, activating=activate)
        async with self._changing() as tx:
            entry = _unmoved(await editions.templates(tx).entry(name), seen.entry)
            await self._add(tx, actor, "template.changed", entry, body, base=seen.edition, activate=activate)
            return await self._shown(tx, name, entry.latest_version + 1, problems)

    async def activate(self, actor: Actor, name: str, version: int, *, expected: Expected) -> Shown:
        """Let new sessions begin with this version; an older one is a rollback. Open sessions stay on theirs.

        Raises:
            TemplateNotFound, VersionNotFound, VersionConflict: what their names say.
            DefinitionInvalid: with the catalog of today it could not be saved any more.
        """
        seen = await self.get(name, version)
        _expect(seen.entry, expected)
        body, problems = await self._checked(stored_template(seen.edition.body), activating=True)
        async with self._changing() as tx:
            entry = _unmoved(await editions.templates(tx).entry(name), seen.entry)
            await self._refuse_inactive(tx, body)
            if entry.active_version != version:
                await _activate(tx, editions.templates(tx), actor, "template", entry, version)
            return await self._shown(tx, name, version, problems)

    async def deactivate(self, actor: Actor, name: str, *, expected: Expected) -> Shown:
        """Let no new session begin with the template; open sessions go on.

        Raises:
            TemplateNotFound, VersionConflict: what their names say.
            InUse: it is the template of requests that name none.
        """
        async with self._changing() as tx:
            entry = _there(await editions.templates(tx).entry(name), TemplateNotFound, name)
            _expect(entry, expected)
            if name == self._default_template:
                raise InUse(f"{name!r} is the default template: `auto` means it.")
            if entry.active_version is not None:
                await _activate(tx, editions.templates(tx), actor, "template", entry, None)
            return await self._shown(tx, name, None)

    async def diff(self, name: str, before: int, after: int) -> list[dict[str, Any]]:
        """What two versions of a template say differently."""
        async with transaction(self._maker) as tx:
            former = await self._shown(tx, name, before)
            later = await self._shown(tx, name, after)
        return differences(stored_template(former.edition.body), stored_template(later.edition.body))

    async def _checked(
        self, given: Mapping[str, Any], *, activating: bool, also: Sequence[Problem] = ()
    ) -> tuple[TemplateBody, tuple[Problem, ...]]:
        async with transaction(self._maker) as tx:
            known = await CatalogRepository(tx).tool_states()
        body, problems = await asyncio.to_thread(check_template, given, known, activating=activating)
        refuse([*also, *problems])
        assert body is not None, "what has no error could be read"
        return body, tuple(problems)

    async def _add(
        self,
        tx: AsyncSession,
        actor: Actor,
        action: str,
        entry: Entry,
        body: TemplateBody,
        *,
        base: Edition | None,
        activate: bool,
    ) -> None:
        shelf = editions.templates(tx)
        if activate:
            await self._refuse_inactive(tx, body)
        added = await shelf.add(entry, body.model_dump(mode="json"), origin=ADMIN, created_by=actor.principal_id)
        CatalogRepository(tx).note_tools(added.id, named_tools(body))
        if activate:
            await shelf.activate(entry, added.version)
        active = added.version if activate else entry.active_version
        before = None if base is None else _said(base, entry.active_version)
        AuditTrail(tx).record(actor, action, f"template:{entry.name}", before, _said(added, active))

    async def _refuse_inactive(self, tx: AsyncSession, body: TemplateBody) -> None:
        """Under the lock: a tool that was active when the template was checked may not be any more."""
        states = await CatalogRepository(tx).tool_states()
        gone = [name for name in needed_tools(body) if states.get(name) is False]
        refuse(
            [Problem("inactive_tool", "tools", f"The template needs {name!r}, which is not active.") for name in gone]
        )

    async def _shown(
        self, tx: AsyncSession, name: str, version: int | None, warnings: tuple[Problem, ...] = ()
    ) -> Shown:
        shelf = editions.templates(tx)
        entry = _there(await shelf.entry(name), TemplateNotFound, name)
        wanted = version or entry.active_version or entry.latest_version
        edition = _version_there(await shelf.edition(entry, wanted), name, wanted)
        return Shown(entry, edition, tuple(problem for problem in warnings if problem.severity == "warning"))

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncSession]:
        async with transaction(self._maker) as tx:
            await editions.locked(tx)
            yield tx
        self._catalog.forget()


def _descriptor(entry: Entry, edition: Edition) -> ToolDescriptor:
    return ToolDescriptor(
        **{**stored_tool(edition.body), "version_id": edition.id, "name": entry.name, "version": edition.version}
    )


def _there(entry: Entry | None, missing: type[MaruntimeError], name: str) -> Entry:
    if entry is None or entry.latest_version == 0:
        raise missing(f"{missing().message[:-1]}: {name[:64]!r}.")
    return entry


def _version_there(edition: Edition | None, name: str, version: int) -> Edition:
    if edition is None:
        raise VersionNotFound(f"{name!r} has no version {version}.")
    return edition


def _unmoved(entry: Entry | None, seen: Entry) -> Entry:
    if entry != seen:
        raise VersionConflict
    return seen


def _expect(entry: Entry, expected: Expected) -> None:
    if expected.latest_version is not None and expected.latest_version != entry.latest_version:
        raise VersionConflict(f"The latest version is {entry.latest_version}.", param="expected_version")
    if expected.tag is not None and expected.tag not in ("*", tag_of(entry)):
        raise VersionConflict(f"It is {tag_of(entry)} now.", param="If-Match")


async def _activate(tx: AsyncSession, shelf: Shelf, actor: Actor, kind: str, entry: Entry, version: int | None) -> None:
    await shelf.activate(entry, version)
    action = f"{kind}.deactivated" if version is None else f"{kind}.activated"
    before, after = {"active_version": entry.active_version}, {"active_version": version}
    AuditTrail(tx).record(actor, action, f"{kind}:{entry.name}", before, after)


def _said(edition: Edition, active: int | None) -> dict[str, Any]:
    return {"version": edition.version, "active_version": active, "definition": edition.body}


def _calls_the_same(base: Edition, tool: ToolDescriptor) -> bool:
    return base.body.get("kind") == tool.kind.value and base.body.get("locator") == tool.locator


def _refuse_unchecked(name: str, version: int, check: ToolCheck | None) -> None:
    if check is not None and check.state == "passed":
        return
    why = f"no worker could load it: {check.problem}" if check and check.problem else "no worker has loaded it yet"
    raise ToolUnchecked(f"Version {version} of {name!r} cannot be active: {why}.")
