"""`publish`: a version of the registry goes to a Hugging Face Hub, where it is read back and loaded before it counts.

Not a DVC stage: it acts on a server. The server is asked what it has before anything is sent, so running it again
changes nothing; the receipt is a copy of its answer. A version goes to the branch `candidate` in one commit. It is read
back at that commit, compared file by file with what was sent, and loaded in a fresh process; only then the same files
are brought to `main`, and the commit is tagged `v<version>`. What somebody else has put into a repository stays.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components import folders, hub, paths
from components.chosen import Chosen, opened_version
from components.outcomes import Refused
from components.recipes import Foreign, Library
from components.wording import one_line, shown

WORDS = ("publish", "restore")
"""What our commits are named after."""

Say = Callable[[str], None]


def publish(
    name: str,
    say: Say = print,
    version: str = "",
    to: str | Path | None = None,
    unapproved: bool = False,
    files: Path | None = None,
) -> dict[str, Any]:
    """Publish a version of a recipe's model to every place that the recipe names, or to one folder.

    Args:
        name: the recipe; its `publish.repository` and `publish.folder` say where.
        say: receives what is done.
        version: a version of the registry, or an alias of one; empty for the one that the package here is.
        to: a folder that gets the files instead of the recipe's places; no token is needed.
        unapproved: publish a version that was never promoted though the recipe asks for a person's approval.
        files: those of the version, fetched and compared with its content hash already; else the registry is asked.

    Returns:
        The receipt, also left at `artifacts/published/<recipe>.json` unless `to` is given.

    Raises:
        Refused: the recipe names no place, there is no such version or the registry does not answer, nobody has
            approved the version, the licences of its data forbid a release, there is no token, the repository holds
            what somebody else has put there, or the Hub does not accept the version or returns it otherwise. Then
            `main` is what it was; the message says so.
        components.hub.Unfinished: the Hub does not answer, or fails; trying again goes on from what has arrived.
    """
    recipe, section = _own(name)
    if section is None and to is None:
        raise Refused(f"Recipe '{name}' names no place to publish. Add: publish: {{repository: ORGANISATION/{name}}}")
    needs_approval = recipe.promote.approval and to is None and not unapproved
    with opened_version(name, recipe, version, files, needs_approval) as chosen:
        if to is not None:
            return _facts(chosen) | _to_folder(chosen, Path(to), say)
        receipt = _facts(chosen)
        if section.repository:
            receipt |= _to_hub(chosen, section, say)
        if section.folder:
            written = _to_folder(chosen, Path(section.folder), say)
            receipt |= written | {"is_new": written["is_new"] or receipt.get("is_new", False)}
        return _leave(receipt)


def restore(name: str, version: str, say: Say = print, files: Path | None = None) -> dict[str, Any]:
    """Bring what is published back to a version that was published before: by a new commit, no history is lost.

    Args:
        name: the recipe.
        version: the version's number.
        say: receives what is done.
        files: as of `publish`.

    Returns:
        The receipt, as `publish`; `is_new` is false when everything was so already.

    Raises:
        Refused: as `publish`; also if no tag of the repository names the version.
        components.hub.Unfinished: as `publish`.
    """
    recipe, section = _own(name)
    if section is None:
        raise Refused(f"Recipe '{name}' names no place where it is published, so nothing can be restored there.")
    with opened_version(name, recipe, version, files) as chosen:
        receipt = _facts(chosen)
        if section.repository:
            _require_token(chosen, section.repository, say)
            with hub.opened(section.repository) as there:
                receipt |= _restored(chosen, there, say)
        if section.folder:
            written = _to_folder(chosen, Path(section.folder), say)
            receipt |= written | {"is_new": written["is_new"] or receipt.get("is_new", False)}
        return _leave(receipt)


# ---- receipts --------------------------------------------------------------------------------------------------------


def _own(name: str) -> tuple[Any, Any]:
    """A recipe of our own and its section `publish`."""
    recipe = Library().read("recipe", name)
    if isinstance(recipe, Foreign):
        raise Refused(
            f"Recipe '{name}' is somebody else's model, taken from {recipe.source}, expected one of our own: it stays "
            "where its makers publish it. Name a recipe with a section 'publish'."
        )
    return recipe, recipe.publish


def _facts(chosen: Chosen) -> dict[str, Any]:
    files = {file.path: file.sha256 for file in chosen.files}
    return {"name": chosen.name, "version": chosen.version, "content_hash": chosen.content_hash, "files": files}


def _leave(receipt: dict[str, Any]) -> dict[str, Any]:
    """Keep a copy of the answers."""
    place = paths.receipt("publish", receipt["name"])
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    kept = {key: value for key, value in receipt.items() if key != "is_new"}
    partial.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(place)
    return receipt


# ---- a folder --------------------------------------------------------------------------------------------------------


def _to_folder(chosen: Chosen, place: Path, say: Say) -> dict[str, Any]:
    is_new = folders.write(chosen.name, chosen.version, chosen.folder, chosen.files, place, chosen.check)
    how = "written, read back and loaded" if is_new else "as it was"
    say(f"{place} holds version {chosen.version} of {chosen.name}, {len(chosen.files)} files, {how}.")
    return {"folder": place.as_posix(), "is_new": is_new}


# ---- a Hub -----------------------------------------------------------------------------------------------------------


def _to_hub(chosen: Chosen, section: Any, say: Say) -> dict[str, Any]:
    _require_token(chosen, section.repository, say)
    with hub.opened(section.repository) as there:
        there.create(section.private)
        _require_hidden(there, section, say)
        _require_free_tag(chosen, there)
        main = there.branches()[hub.MAIN]
        is_new = bool(there.differences(main, chosen.files))
        if is_new:
            _require_ours(chosen, there, hub.MAIN, main)
            _require_room(chosen, there)
            candidate = _candidate(chosen, there, main, say)
            _prove(chosen, there, candidate)
            main = _advance(chosen, there, candidate, main, "publish")
        if chosen.tag not in there.tags():
            there.truth = f"{hub.MAIN} of {there.name} holds version {chosen.version}, but has no tag {chosen.tag} yet"
            there.tag(chosen.tag, main)
            is_new = True
        how = "sent, read back, loaded and tagged" if is_new else "as it was"
        say(f"{there.name} holds version {chosen.version} at commit {main[:12]}, tag {chosen.tag}: {how}.")
    return _answer(chosen, there, main) | {"is_new": is_new}


def _answer(chosen: Chosen, there: hub.Repository, commit: str) -> dict[str, Any]:
    where = {"endpoint": shown(hub.endpoint()), "repository": there.name}
    return {**where, "commit": commit, "tag": chosen.tag}


def _require_token(chosen: Chosen, repository: str, say: Say) -> None:
    """Without a token nothing is sent; it says what would be."""
    if hub.token():
        return
    say(f"Version {chosen.version} of {chosen.name} would go to {repository} at {shown(hub.endpoint())}:")
    for file in chosen.files:
        say(f"  {file.num_bytes:>14,}  {file.path}")
    raise Refused(
        f"There is no {hub.TOKEN}, so nothing was sent of {chosen.num_bytes:,} bytes. Set {hub.TOKEN}, or save it as "
        f"Prefect's Secret block 'hf-token', and run again. Without a Hub: hiraku publish {chosen.name} "
        "--to DIR"
    )


def _require_hidden(there: hub.Repository, section: Any, say: Say) -> None:
    """A version that is to be private must not appear in a repository that everybody sees."""
    is_private = there.is_private()
    if section.private and not is_private:
        raise Refused(
            f"{there.name} is public, expected private, as publish.private of the recipe says. {there.truth}. Make it "
            "private in its settings on the Hub, or set publish.private: false."
        )
    if is_private and not section.private:
        say(f"{there.name} is private and stays so: make it public in its settings on the Hub.")


def _require_free_tag(chosen: Chosen, there: hub.Repository) -> None:
    commit = there.tags().get(chosen.tag)
    if commit and (gap := there.differences(commit, chosen.files)):
        raise Refused(
            f"Tag {chosen.tag} of {there.name} names commit {commit[:12]}, which is another content than version "
            f"{chosen.version} of the registry: {'; '.join(gap[:3])}. {there.truth}. Tags are not moved: name another "
            "repository under publish.repository, or delete the tag on the Hub if it is a mistake."
        )


def _require_ours(chosen: Chosen, there: hub.Repository, branch: str, commit: str) -> None:
    """Refuse to write over what somebody else has put there; a receipt is lost with its folder, so commits tell."""
    files = there.files(commit)
    if not files:
        return
    title = there.title(commit)
    if not any(f"{title} ".startswith(f"hiraku {word} {chosen.name} ") for word in WORDS):
        raise Refused(
            f"{branch} of {there.name} has {len(files)} files, and its newest commit is '{one_line(title, 80)}', "
            f"expected an empty repository or 'hiraku publish {chosen.name}': publishing would delete what others have "
            f"put there. {there.truth}. Move it elsewhere and delete its files on the Hub, or name another place under "
            "publish.repository."
        )


def _require_room(chosen: Chosen, there: hub.Repository) -> None:
    """A version is read back into a temporary folder before it counts."""
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < chosen.num_bytes:
        raise Refused(
            f"{place} has {free:,} bytes free, expected {chosen.num_bytes:,} to read version {chosen.version} back "
            f"from the Hub. {there.truth}. Free some, or set TMPDIR to a folder of a larger disk."
        )


def _candidate(chosen: Chosen, there: hub.Repository, main: str, say: Say) -> str:
    """The commit of the branch `candidate` that holds the version; what has arrived before is not sent again."""
    head = there.branches().get(hub.CANDIDATE)
    if head is None:
        there.branch(hub.CANDIDATE, main)
        head = main
    there.truth = f"{hub.MAIN} of {there.name} is as it was; what has arrived waits on the branch {hub.CANDIDATE}"
    if there.differences(head, chosen.files):
        if head != main:
            _require_ours(chosen, there, hub.CANDIDATE, head)
        size = f"{len(chosen.files)} files, {chosen.num_bytes:,} bytes"
        say(f"Sending {size}, to the branch {hub.CANDIDATE} of {there.name}")
        head = there.send(chosen.folder, chosen.files, hub.CANDIDATE, head, *_message(chosen, "publish"))
    if gap := there.differences(head, chosen.files):
        raise Refused(
            f"{hub.CANDIDATE} of {there.name} is not what was sent: {'; '.join(gap)}. {there.truth}. Run again."
        )
    say(f"Reading back commit {head[:12]} and loading it in a fresh process")
    return head


def _prove(chosen: Chosen, there: hub.Repository, commit: str) -> None:
    """Download a commit and load it."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "files"
        there.download(commit, copy)
        try:
            chosen.check(copy)
        except Refused as error:
            raise Refused(
                f"{str(error).rstrip('.')}. {there.truth}. Look at commit {commit}, then run again."
            ) from error


def _advance(chosen: Chosen, there: hub.Repository, source: str, main: str, word: str) -> str:
    """Bring the files of a commit to `main` and look at them there."""
    commit = there.bring(source, hub.MAIN, main, *_message(chosen, word))
    there.truth = f"{hub.MAIN} of {there.name} is at commit {commit}, before it at {main}"
    if not there.is_like(commit, source):
        raise Refused(
            f"{hub.MAIN} of {there.name} does not hold the files of commit {source}, though it was told to. "
            f"{there.truth}. Look at the repository, then run again."
        )
    return commit


def _message(chosen: Chosen, word: str) -> tuple[str, str]:
    return f"hiraku {word} {chosen.name} {chosen.tag}", f"Content {chosen.content_hash} in the registry."


def _restored(chosen: Chosen, there: hub.Repository, say: Say) -> dict[str, Any]:
    tags = there.tags()
    if chosen.tag not in tags:
        known = ", ".join(sorted(tags)) or "none"
        raise Refused(
            f"{there.name} has no tag {chosen.tag}, so version {chosen.version} was never published there. Tags: "
            f"{known}. {there.truth}. Publish it: hiraku publish {chosen.name} --version {chosen.version}"
        )
    _require_free_tag(chosen, there)
    main, source = there.branches()[hub.MAIN], tags[chosen.tag]
    is_new = not there.is_like(main, source)
    if is_new:
        _require_ours(chosen, there, hub.MAIN, main)
        there.truth = f"{hub.MAIN} of {there.name} is as it was"
        main = _advance(chosen, there, source, main, "restore")
    how = "restored by a new commit" if is_new else "as it was"
    say(f"{there.name} holds version {chosen.version} at commit {main[:12]}: {how}.")
    return _answer(chosen, there, main) | {"is_new": is_new}
