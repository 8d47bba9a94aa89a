"""Events that Prefect's automations and deployments wait for."""

import json
import os

from components import processes
from components.settings import STATE

CORPUS_LANDED = "hiraku.corpus.landed"
"""New raw data of a corpus stand in `data.dvc`; the payload is its hash."""
CHAMPION_MOVED = "hiraku.champion.moved"
"""Another version of a recipe's model is the champion; the payload has `from`, `to` and the verdict."""
BY = "hiraku.by"
"""Label of an event's resource: the recipe whose flow has seen to it already, or `person`."""
PERSON = "person"
DRAIN_SECONDS = 10.0
SERVED = STATE / "served.json"
"""Where `hiraku serve` says which server runs, so that other commands reach it."""


def corpus_resource(corpus: str) -> str:
    """The resource that a corpus is to Prefect."""
    return f"hiraku.corpus.{corpus}"


def model_resource(recipe: str) -> str:
    """The resource that a recipe's model is to Prefect."""
    return f"hiraku.model.{recipe}"


def served_url() -> str:
    """The address of the server that waits for events: of PREFECT_API_URL, or of `hiraku serve`; empty if none does."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    if not SERVED.is_file():
        return ""
    found = json.loads(SERVED.read_text(encoding="utf-8"))
    return "" if processes.is_dead(found["process"]) else str(found["url"])


def corpus_landed(corpus: str, data_hash: str, by: str) -> bool:
    """Tell that a corpus has new raw data; False if there is no server to tell."""
    url = served_url()
    if not url:
        return False
    os.environ["PREFECT_API_URL"] = url  # Prefect reads it on import
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    resource = {"prefect.resource.id": corpus_resource(corpus), "prefect.resource.name": corpus, BY: by}
    emit_event(CORPUS_LANDED, resource=resource, payload={"data": data_hash})
    if by == PERSON:  # the command ends now; a flow sends what it has queued at its own end
        EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    return True


def serving(url: str) -> None:
    """Leave the address of a server for other commands of this project."""
    SERVED.parent.mkdir(parents=True, exist_ok=True)
    partial = SERVED.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"url": url, "process": processes.mark()}), encoding="utf-8")
    partial.replace(SERVED)
