"""Side by side with peers and baselines, written to `benchmarks/results/`."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import cyclopts

from benchmarks import (
    alignment,
    alignment_speed,
    clustering,
    contrast_memory,
    contrast_step,
    cross_entropy_memory,
    diffusion_step,
    fine_tuning,
    harness,
    lit_step,
    masking,
    near_duplicates,
    new_word,
    ngram,
    speech_loss,
    speech_step,
    text_sharding,
    text_verbs,
    training_speed,
    translation,
    unit_agreement,
)
from benchmarks.report import Result, result_table, save
from components.outcomes import Refused
from components.settings import set_quiet_environment

app = cyclopts.App(
    name="python -m benchmarks",
    help=__doc__,
    help_format="plaintext",
    default_parameter=cyclopts.Parameter(consume_multiple=True),
)


def saved(measure: Callable[..., Result]) -> Callable[..., None]:
    """The command of a benchmark: measure, print the rows, write the result."""

    @wraps(measure)
    def command(*arguments: Any, **options: Any) -> None:
        result = measure(*arguments, **options)
        print(result_table([result]))
        print("\n".join(result.notes))
        print(f"Written: {save(result)}", flush=True)

    return command


app.command(saved(training_speed.measure), name=training_speed.NAME)
app.command(saved(alignment_speed.measure_sft), name=alignment_speed.SFT_NAME)
app.command(saved(alignment_speed.measure_ppo), name=alignment_speed.PPO_NAME)
app.command(saved(cross_entropy_memory.measure), name=cross_entropy_memory.NAME)
app.command(saved(contrast_memory.measure), name=contrast_memory.NAME)
app.command(saved(contrast_step.measure), name=contrast_step.NAME)
app.command(saved(lit_step.measure), name=lit_step.NAME)
app.command(saved(diffusion_step.measure), name=diffusion_step.NAME)
app.command(saved(new_word.measure), name=new_word.NAME)
app.command(saved(harness.measure), name=harness.NAME)
app.command(saved(alignment.measure), name=alignment.NAME)
app.command(saved(speech_loss.measure), name=speech_loss.NAME)
app.command(saved(speech_step.measure), name=speech_step.NAME)
app.command(saved(translation.measure), name=translation.NAME)
app.command(saved(clustering.measure), name=clustering.NAME)
app.command(saved(unit_agreement.measure), name=unit_agreement.NAME)
app.command(saved(fine_tuning.measure), name=fine_tuning.NAME)
app.command(saved(text_verbs.measure), name=text_verbs.NAME)
app.command(saved(text_sharding.measure), name=text_sharding.NAME)
app.command(saved(masking.measure), name=masking.NAME)
app.command(saved(near_duplicates.measure), name=near_duplicates.NAME)
app.command(ngram.main, name=ngram.NAME)


@app.command(name="all")
def everything() -> None:
    """Every benchmark that needs nothing but this project and its demo, as `make bench` does, with their defaults."""
    ngram.main("demo-text", order=[5, 8], recipe="gpt-demo", save_as="demo-ngram")
    saved(cross_entropy_memory.measure)()
    saved(training_speed.measure)()
    saved(alignment_speed.measure_sft)()
    saved(alignment_speed.measure_ppo)()
    saved(contrast_memory.measure)()
    saved(contrast_step.measure)()
    saved(lit_step.measure)()
    saved(diffusion_step.measure)()
    saved(speech_loss.measure)()
    saved(speech_step.measure)()


if __name__ == "__main__":
    set_quiet_environment()
    try:
        app()
    except Refused as refused:
        sys.exit(str(refused))
