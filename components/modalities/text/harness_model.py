"""A network of ours behind lm-eval's interface: what it is asked becomes token ids, and every answer is kept.

Two ways to ask: lm-eval's own (its `models/huggingface.py`), and that of the published scores, see `QUIRKS` of
`harness_schema`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from components.kept import Kept
from components.modalities.text.branches import Continuation, Likelihood, likelihoods
from components.modalities.text.continuing import Stream, go_on
from components.modalities.text.harness_gold import gold_of
from components.modalities.text.harness_items import Unavailable
from components.modalities.text.plain_passes import Ids, sees_all
from components.modalities.text.shortening import cut_sentences
from components.outcomes import Refused

REVISION = 1
"""Of the answers: kept ones of another number are not taken."""
UNKNOWN = "\ufffd"
"""What a part of a character decodes to."""

Told = Callable[[float], None]
Stop = Callable[[list[int]], bool]


class NetworkFailed(RuntimeError):
    """The network itself cannot compute: no task's data are to blame."""


class Answers:
    """Answers of one model by what was asked, kept on the disk if the model's content is known.

    Args:
        model: see `components.scoring.Model`.
    """

    def __init__(self, model: Any) -> None:
        parameter = next(model.network.parameters())
        facts = {
            "model": getattr(model, "content", ""),
            "revision": REVISION,
            "device": parameter.device.type,
            "precision": str(parameter.dtype),
        }
        if not sees_all(model.network):
            facts["passes"] = "plain"  # kept answers without it are of a time when such networks were asked wrongly
        self._kept: Kept[str] | None = Kept("answers", facts) if facts["model"] else None
        self._here: dict[str, str] = {}
        self.num_made = 0
        """Answers that the network was asked for, and not remembered."""

    def recall(self, keys: Sequence[str]) -> dict[str, Any]:
        """Those of some questions that are known."""
        found = {key: self._here[key] for key in keys if key in self._here}
        if self._kept is not None:
            found = self._kept.recall(key for key in keys if key not in found) | found
        self._here |= found
        return {key: json.loads(text) for key, text in found.items()}

    def keep(self, made: dict[str, Any]) -> None:
        """Keep what was just made."""
        texts = {key: json.dumps(value) for key, value in made.items()}
        self.num_made += len(texts)
        self._here |= texts
        if self._kept is not None:
            self._kept.keep(texts)


class HarnessModel(LM):
    """What lm-eval asks, answered by one network.

    Args:
        model: `network` (a causal language model on its device) and `encoder` (its tokenizer).
        answers: of this model.
    """

    def __init__(self, model: Any, answers: Answers) -> None:
        super().__init__()
        self.network, self.encoder, self.answers = model.network, model.encoder, answers
        self.longest = int(model.network.config.max_position_embeddings)
        self.eos, self.vocab_size = (int(model.encoder.facts[key]) for key in ("eos", "vocab_size"))
        self._start: Ids = (int(model.encoder.facts["start"]),) if getattr(model.encoder, "puts_start", False) else ()
        self._device = next(model.network.parameters()).device
        self._pieces: dict[int, str] = {}
        self.begin(None, is_published=False, told=lambda _: None)

    def begin(self, task: Any, *, is_published: bool, told: Told) -> None:
        """Say what the next questions belong to.

        Args:
            task: lm-eval's; `metadata` of its file says what is done with a context that is too long.
            is_published: ask as the published scores did.
            told: receives the share of the questions that is answered.
        """
        self.task, self.is_published, self.told = task, is_published, told
        self.metadata: dict[str, Any] = (task.config.metadata or {}) if task is not None else {}
        self.cut: set[int] = set()
        """Numbers of the items that lost a part of their context."""

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """Tell errors of the network from those that data or prompts cause.

        Raises:
            NetworkFailed: instead of what passes raise, but for what is refused.
        """
        try:
            yield
        except Refused:
            raise
        except (LookupError, TypeError, ValueError, AssertionError) as error:
            raise NetworkFailed(
                f"The network cannot answer: {type(error).__name__}: {error}. Look whether its weights "
                f"({self.network.config.get_text_config().vocab_size:,} tokens) and its tokenizer "
                f"({self.vocab_size:,}) belong together."
            ) from error

    # ---- log-likelihoods ----

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Log-probabilities of continuations in nats, and whether each is the greedy one.

        Raises:
            Unavailable: a continuation is longer than the network's context.
        """
        asked = []
        encoded = self._pairs([request.args for request in requests])
        for request, (context, tokens) in zip(requests, encoded, strict=True):
            if not tokens or len(tokens) > self.longest:
                raise Unavailable(
                    f"item {request.doc_id} (counted from 0) has a choice of {len(tokens)} tokens, expected 1 to "
                    f"{self.longest}, which is the network's context. Take the item out of the data."
                )
            whole = (context + tokens)[-(self.longest + 1) :]
            if len(whole) < len(context) + len(tokens):
                self.cut.add(request.doc_id)
            asked.append(Continuation(request.doc_id, whole[: -len(tokens)], tokens))
        keys = [json.dumps(["likelihood", each.context, each.tokens]) for each in asked]
        known = self.answers.recall(keys)
        open_places = list({key: place for place, key in enumerate(keys) if key not in known}.values())

        def done(found: dict[int, Likelihood]) -> None:
            made = {keys[open_places[place]]: [each.nats, each.is_greedy] for place, each in found.items()}
            self.answers.keep(made)
            known.update(made)
            self.told(len(known) / len(set(keys)))

        with self._passing():
            likelihoods(self.network, [asked[place] for place in open_places], done)
        return [(known[key][0], known[key][1]) for key in keys]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Not asked by any of our tasks: `held-out-bits` is what measures whole texts.

        Raises:
            Refused: always.
        """
        raise Refused(
            f"Task '{self.task.task_name}' has 'output_type: loglikelihood_rolling', which is not measured here. Make "
            "a task of kind 'held-out-bits' of its text."
        )

    def _pairs(self, pairs: list[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """Context and continuation as ids; an empty context is the end of the text before."""
        if self.is_published:
            contexts, continuations = (self._encode([pair[part] for pair in pairs]) for part in (0, 1))
            return [(context or (self.eos,), each) for context, each in zip(contexts, continuations, strict=True)]
        # As lm-eval does: white space at the end of the context belongs to what follows, both are encoded as one, and a
        # tokenizer that puts a token before a text does so before the context.
        stripped = [context.rstrip() for context, _ in pairs]
        contexts = self._encode(stripped)
        wholes = self._encode([context + continuation for context, continuation in pairs])
        return [
            (self._start + context, whole[len(context) :]) if text else self._alone(whole)
            for text, context, whole in zip((context for context, _ in pairs), contexts, wholes, strict=True)
        ]

    def _alone(self, tokens: Ids) -> tuple[Ids, Ids]:
        first = self._start or (self.eos,)
        return (tokens[:1], tokens[1:]) if tokens[:1] == first else (first, tokens)

    def _encode(self, texts: list[str]) -> list[Ids]:
        """Ids of texts, each encoded once."""
        unique = list(dict.fromkeys(texts))
        known = dict(zip(unique, (tuple(ids.tolist()) for ids in self.encoder.encode_texts(unique)), strict=True))
        return [known[text] for text in texts]

    # ---- generation ----

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """The greedy continuation of each context, up to a stop string."""
        streams, stops = [], []
        for request in requests:
            context, settings = request.args
            until = [settings["until"]] if isinstance(settings["until"], str) else list(settings["until"])
            most = self._most(request.doc, settings)
            stop = self._published_stop(until) if self.is_published else self._stop(until)
            streams.append(Stream(self._prompt(request, context, self.longest - most), most, stop))
            stops.append(until)
        keys = [json.dumps(["stream", stream.prompt]) for stream in streams]
        known = self.answers.recall(keys)
        for stream, key in zip(streams, keys, strict=True):
            stream.tokens = _own(known.get(key, []), stream)

        def done(batch: list[Stream]) -> None:
            made = {json.dumps(["stream", stream.prompt]): stream.tokens for stream in batch}
            longer = {key: tokens for key, tokens in made.items() if len(tokens) > len(known.get(key, []))}
            self.answers.keep(longer)
            known.update(longer)
            self.told(sum(stream.is_over for stream in streams) / len(streams))

        with self._passing():
            go_on(self.network, streams, self.vocab_size, done)
        return [self._text(stream, until) for stream, until in zip(streams, stops, strict=True)]

    def _most(self, document: dict[str, Any], settings: dict[str, Any]) -> int:
        """Tokens that an answer may have."""
        most = int(settings.get("max_gen_toks", 256))
        more = self.metadata.get("length_of_gold_plus")
        if self.is_published and more is not None:
            gold = gold_of(document, self.metadata)
            texts = [str(each) for each in gold] if isinstance(gold, list) else [str(gold)]
            most = max(map(len, self._encode(texts))) + int(more)
        if most >= self.longest:
            raise Unavailable(
                f"it gives answers {most} tokens, and the network's context has {self.longest}. Lower 'max_gen_toks' "
                "in its file."
            )
        return most

    def _prompt(self, request: Instance, context: str, room: int) -> Ids:
        """The context as ids, brought into the room that there is by what the task's file says."""
        start: Ids = () if self.is_published else self._start
        return start + self._fitted(request, context, room - len(start)) or (self.eos,)

    def _fitted(self, request: Instance, context: str, room: int) -> Ids:
        [ids] = self._encode([context])
        if len(ids) <= room:
            return ids
        self.cut.add(request.doc_id)
        way = self.metadata.get("too_long")
        if way == "drop-shots":
            for shots in reversed(range(self.task.config.num_fewshot or 0)):
                [ids] = self._encode([self.task.fewshot_context(request.doc, shots)])
                if len(ids) <= room:
                    break
        elif way == "cut-sentences":
            article, answer, end = (self.metadata[key] for key in ("article", "answer", "after_cut"))
            [ids] = self._encode([cut_sentences(context, room, article, answer, end, self._length)])
        return ids[-room:]

    def _length(self, text: str) -> int:
        return len(self._encode([text])[0])

    def _stop(self, until: list[str]) -> Stop:
        """At the end-of-text token, or where a stop string is complete."""
        closes = self._closers(until)

        def is_done(tokens: list[int]) -> bool:
            if tokens[-1] == self.eos:
                return True
            return closes(tokens[-1]) and any(each in self.encoder.decode(tokens) for each in until)

        return is_done

    def _published_stop(self, until: list[str]) -> Stop:
        """At the last token of the separator alone; what follows the separator's text is cut off, so it need not be."""
        ending = self._encode(until[:1])[0]
        last = self.eos if self.metadata.get("stop_at_end") or not ending else ending[-1]
        closes = self._closers(until)

        def is_done(tokens: list[int]) -> bool:
            if tokens[-1] == last:
                return True
            return closes(tokens[-1]) and any(each in self._with_ends(tokens) for each in until)

        return is_done

    def _closers(self, until: list[str]) -> Callable[[int], bool]:
        """Whether a stop string can become complete with a token; each is decoded once, when it is first said."""
        last = {each[-1] for each in until if each}

        def closes(token: int) -> bool:
            piece = self._piece(token)
            return UNKNOWN in piece or not last.isdisjoint(piece)

        return closes

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self.encoder.decode([token])
        return self._pieces[token]

    def _with_ends(self, tokens: list[int]) -> str:
        """The text, end-of-text tokens as the text that they are written as."""
        parts: list[list[int]] = [[]]
        for token in tokens:
            parts[-1].append(token) if token != self.eos else parts.append([])
        return "</s>".join(self.encoder.decode(part) for part in parts)

    def _text(self, stream: Stream, until: list[str]) -> str:
        text = self._with_ends(stream.tokens) if self.is_published else self.encoder.decode(stream.tokens)
        for each in until:
            text = text.split(each)[0] if each else text
        return text


def _own(tokens: list[int], stream: Stream) -> list[int]:
    """Of a known continuation, what this stream would have asked for."""
    for end in range(1, min(len(tokens), stream.most) + 1):
        if stream.is_done(tokens[:end]):
            return tokens[:end]
    return tokens[: stream.most]
