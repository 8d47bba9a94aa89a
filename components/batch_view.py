"""What stands in a batch of a training, for a person who wonders why it did harm."""

from components import paths
from components.mixtures import weighted_folders
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Library
from models import part_of


def batch_texts(name: str, number: int) -> list[str]:
    """One text for each sample of a recipe's batch, in the order in which they are trained on.

    Args:
        name: a recipe whose shards are made.
        number: as the trainer counts: from 0 over all epochs.

    Raises:
        Refused: there is no such recipe or batch, or its shards are not made.
    """
    from components.batches import collated, micro_batches
    from components.job import plan_of

    recipe = Library().read("recipe", name)
    section = getattr(recipe, "pretrain", None) or getattr(recipe, "align", None)
    if section is None:
        raise Refused(f"Recipe '{name}' trains nothing, so it has no batches. Run: hiraku recipes")
    if number < 0:
        raise Refused(f"Batches are counted from 0, found {number}.")
    own = modality(part_of(recipe.family, "schema").MODALITY)
    encoder = own.open_encoder(paths.payload("fit", recipe.encoder))
    folders = weighted_folders(section, own)
    samples = own.open_samples(folders, "train", section.samples)
    epoch, indices = plan_of(samples, section).indices(number)
    batch = collated(samples, indices, epoch, getattr(section.samples, "stand_alone", False))
    parts = micro_batches(batch, section.samples.batch_samples)
    return [text for part in parts for text in own.describe(part, encoder)]
