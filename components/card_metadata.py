"""The metadata at the head of a card, in the form that the Hugging Face Hub reads and its own library validates."""

import re
from typing import TYPE_CHECKING, Any

from components.markdown import label
from components.outcomes import Refused

if TYPE_CHECKING:
    from components.card import Release

# Licences that the Hub knows by these words (huggingface.co/docs/hub/repositories-licenses); others are `other` with a
# name.
HUB_LICENCES = (
    {"apache-2.0", "mit", "openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m", "unlicense"}
    | {"bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause"}
    | {"bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0"}
    | {"cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0"}
    | {"cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "wtfpl", "isc"}
    | {"cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0"}
    | {"eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0"}
    | {"lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "zlib", "pddl"}
    | {"llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma"}
)
LANGUAGE = re.compile(r"[a-z]{2,3}")
"""A code of ISO 639-1, 639-2 or 639-3."""


def languages(release: "Release") -> list[str]:
    """The codes of a recipe's languages, which it writes with commas between.

    Raises:
        Refused: one is no code, so the Hub would refuse the card.
    """
    found = [word.strip() for word in release.recipe.language.split(",")]
    for code in found:
        if not LANGUAGE.fullmatch(code):
            raise Refused(
                f"Recipe '{release.name}' has the language '{code}', expected codes of two or three letters as ISO 639 "
                "has them, such as 'ja' or 'ja, en'. Change the key 'language'."
            )
    return found


def metadata(release: "Release", layout: str) -> str:
    """The YAML block at the head of the card."""
    from huggingface_hub import ModelCardData

    codes = languages(release)
    library, tag = release.hub_names(layout)
    licence = release.recipe.licence.lower().replace(" ", "-")
    is_known = licence in HUB_LICENCES
    data = ModelCardData(
        language=codes if len(codes) > 1 else codes[0],
        license=licence if is_known else "other",
        license_name=None if is_known else licence,
        license_link=None if is_known else release.recipe.package.licence_link,
        library_name=library,
        pipeline_tag=tag,
        base_model=release.recipe.package.base_model,
        tags=sorted({release.recipe.family, release.architecture, "hiraku"}),
        model_name=release.name,
        eval_results=_results(release, tag) or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _results(release: "Release", tag: str) -> list[Any]:
    from huggingface_hub import EvalResult

    data = {state.name: state.payload_hash for state in release.own.of("ingest")}
    return [
        EvalResult(
            task_type=tag,
            dataset_type=section.get("corpus", task),
            dataset_name=f"{section.get('corpus', task)} ({task})",
            dataset_config=task,  # else the Hub merges two tasks of one corpus
            dataset_split=section.get("split"),
            dataset_revision=data.get(section.get("corpus", "")),
            metric_type=metric,
            metric_name=label(metric),
            metric_value=value,
        )
        for task, section in sorted(release.tasks.items())
        for metric, value in sorted(release.scores[task].items())
        if not metric.startswith("num_")
    ]
