"""The sections of a recipe that say how a model is released and kept up to date; no training depends on them."""

from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from components.wording import nearest_name
from models.schema import Name, Strict


class PublishedScore(Strict):
    """A score that others have published of the model which a recipe re-creates."""

    model: str
    """Its name, such as `rinna/japanese-gpt2-small`."""
    score: str
    """What was measured."""
    value: float
    source: str
    """Where it stands: a paper and table, a repository and file."""
    note: str = ""
    """How it was measured, as far as that differs from ours."""
    task: str = ""
    """A task of the recipe beside whose own score it is shown; with `metric`."""
    metric: str = ""


class Package(Strict):
    """What stands in a release besides the weights."""

    layouts: list[str] = ["transformers"]
    title: str
    summary: str
    """One or two sentences of the card."""
    limits: str
    """What the model cannot do and must not be used for."""
    example_prompt: str = ""
    """The card's example starts from it; its output is what this very model answered. Models of speech take none."""
    intended_use: str = (
        "Research, and a start for training on a task of one's own. "
        "Whoever builds on it tests it for that purpose first."
    )
    """What the model is made for, as the card says it."""
    base_model: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """What the recipe starts from, by its name on the Hub."""
    licence_link: str | None = None
    """Where the text of a licence stands that the Hub does not know by its name."""
    allowed_licences: list[str] = []
    """Licences of data under which this model may be released, besides those that allow it by their names: the word of
    a person who has read their terms."""
    published_scores: list[PublishedScore] = []
    """Scores of the model that the recipe re-creates, shown beside our own."""
    generation: dict[str, Any] = {}
    """Fields of generation_config.json, such as do_sample, temperature, top_p, max_new_tokens."""


class Publish(Strict):
    """Where a release goes: a repository on a Hub, a folder, or both."""

    repository: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """`ORGANISATION/NAME` on the Hub that `HF_ENDPOINT` names, Hugging Face's if it names none."""
    private: bool = True
    """Whether the repository is created private, and must be private for a version to go there."""
    folder: str | None = None
    """A folder that gets the same files, such as one that a web server shows."""

    @model_validator(mode="after")
    def names_a_place(self) -> "Publish":
        """Nothing can go nowhere."""
        if not (self.repository or self.folder):
            raise ValueError("one of the keys 'repository' and 'folder' must be there")
        return self


class Schedule(Strict):
    """When `hiraku serve` and `hiraku deploy` bring a recipe up to date."""

    cron: str
    """Five fields: minute, hour, day of the month, month, day of the week."""
    timezone: str = "Asia/Tokyo"
    is_active: bool = True
    """False leaves the button in Prefect's pages and takes the clock and the events away."""
    on_data: bool = True
    """Also run when a corpus that the recipe depends on has new files; see `flows.events.CORPUS_LANDED`."""
    promote: Literal["none", "ask"] = "none"
    """`ask` starts the promotion of a new version, which asks a person where the section `promote` says so."""
    max_retries: int = Field(default=2, ge=0, le=10)
    """How often a flow that failed, not for its input, is begun again; its stages have two retries of their own."""
    max_drift: float = Field(default=0.25, gt=0)
    """Population stability index above which a person has to set `force`; 0.25 is what the index's users call a major
    shift. Our choice."""

    @field_validator("cron")
    @classmethod
    def comes_at_some_time(cls, cron: str) -> str:
        """Five fields that some day meets: 31 February never comes."""
        try:
            CronSim(cron, datetime.now(UTC))
        except CronSimError as error:
            hint = "expected five fields, such as '0 3 * * *' for three every night"
            raise ValueError(f"{str(error).lower()}; {hint}") from error
        return cron

    @field_validator("timezone")
    @classmethod
    def is_known(cls, timezone: str) -> str:
        """A name of the IANA database."""
        known = available_timezones()
        if timezone not in known:
            near = nearest_name(timezone, known)
            hint = f"Did you mean '{near}'?" if near else "Expected a name such as 'Asia/Tokyo'."
            raise ValueError(f"no such time zone. {hint}")
        return timezone


class Follow(Strict):
    """A folder whose new files a scheduled run brings under `data/`."""

    folder: str
    """Anywhere on this machine; relative to the project's root if it is not absolute. Files are copied, never moved."""
    settle_seconds: float = Field(default=60.0, ge=0)
    """A file that was written to more lately may not be complete, and is left to the next run."""


class Promote(Strict):
    """What must hold before a version becomes the champion. Reaches no stage."""

    approval: bool = True
    """Whether a person is asked."""
    approval_timeout_hours: float = Field(default=72.0, gt=0)
    """How long the question stands; without an answer by then the champion stays."""
    min_verdict: Literal["better", "cannot-tell"] = "cannot-tell"
    """`better`: some task must have improved beyond noise. `cannot-tell`: it is enough that none has got worse."""
    tolerated_loss: dict[Name, float] = {}
    """Task -> how much worse its measure may be, in the measure's units; 0 for tasks that are not named."""
    max_megabytes: float | None = Field(default=None, gt=0)
    """The largest package, in 10^6 bytes."""
    card_sections: list[str] = [
        "Use",
        "Training data",
        "Evaluation",
        "Intended use",
        "Limits",
        "Licence and provenance",
    ]
    """Headings that the card must have, with something under each."""
    max_contamination: float = Field(default=0.01, ge=0, le=1)
    """The largest share of a task's items that may stand in the training data, where it was measured."""
