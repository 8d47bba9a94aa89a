"""Licences by name: which of them let a model that is made from the data be released."""

OPEN = frozenset(
    {"apache-2.0", "mit", "isc", "zlib", "ncsa", "postgresql", "unlicense", "wtfpl", "afl-3.0", "artistic-2.0"}
    | {"bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "ecl-2.0", "ms-pl", "ofl-1.1"}
    | {"cc0-1.0", "pddl", "odc-by", "odc-by-1.0", "odbl", "odbl-1.0", "etalab-2.0"}
    | {f"cc-by-{version}" for version in ("2.0", "2.1", "2.5", "3.0", "4.0")}
    | {f"cc-by-sa-{version}" for version in ("2.0", "2.1", "2.5", "3.0", "4.0")}
    | {"cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2"}
    | {"gfdl", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mpl-2.0"}
    | {"osl-3.0"}
)
"""Open in the sense of opendefinition.org: anybody may use, change and pass on, for any purpose.

That a Hub knows a licence by name says nothing of this: those of the Llama, Gemma and OpenRAIL models restrict use.
"""


def plain(licence: str) -> str:
    """A licence's name as it is compared: `CC BY-SA 4.0` and `cc-by-sa-4.0` are one."""
    return "-".join(licence.split()).casefold()


def allows_release(data: str, own: str) -> bool:
    """Whether data under one licence may become a model under another, as far as their names tell.

    Open data may; what is under the model's own terms may; non-commercial data may become a non-commercial model; what
    forbids derivatives may never. Whatever else, a person has to read.
    """
    data, own = plain(data), plain(own)
    marks = data.split("-")
    if "nd" in marks:
        return False
    if data.startswith("cc-by-nc-"):
        return "nc" in own.split("-")
    return data in OPEN or data == own
