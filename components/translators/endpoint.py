"""Translation by a chat endpoint that speaks OpenAI's protocol: a model server of one's own, or a company's.

Whatever is translated is handed on at once, so that a request which fails after all its tries loses nothing else.
"""

import email.utils
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from components.outcomes import Refused
from components.translators.schema import Endpoint
from components.wording import one_line

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FIRST_WAIT_SECONDS = 1.0
MANY = (
    " The user writes a JSON object of numbered texts. Answer with one JSON object that has the same keys and the "
    "translations as values, and nothing else."
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an error: the key would go there too."""

    def redirect_request(self, *_words: Any) -> None:
        """Follow nothing."""


_OPENER = urllib.request.build_opener(_NoRedirect)


class Trouble(Exception):
    """A try that failed in a way that another one may not; `wait_seconds` is what the server asks for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def open_engine(section: Endpoint, source: str, target: str) -> "Client":
    """A client of an endpoint; nothing is sent yet.

    Raises:
        Refused: the key is not in the environment, or the prompt names something else than the languages.
    """
    key = os.environ.get(section.key_variable, "") if section.key_variable else ""
    if section.key_variable and not key:
        raise Refused(
            f"The variable {section.key_variable} is not set, expected the key of {section.url}. Set it, or say "
            "source.engine.key_variable: null if the endpoint wants none."
        )
    try:
        prompt = section.prompt.format(source=source, target=target)
    except (KeyError, IndexError, ValueError) as error:
        raise Refused(
            f"source.engine.prompt has braces with {error!s}, expected {{source}} and {{target}} only. Write other "
            "braces twice."
        ) from error
    return Client(section, prompt, key, {"source": source, "target": target})


@dataclass
class Client:
    """Sends texts and reads translations."""

    section: Endpoint
    prompt: str
    key: str = field(repr=False)
    languages: dict[str, str]
    sleep: Callable[[float], None] = time.sleep

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides a translation, as far as a server lets one know."""
        decides = {"kind", "url", "model", "temperature", "max_answer_tokens"}
        return self.section.model_dump(include=decides) | self.languages | {"prompt": self.prompt}

    def translate(self, texts: list[str]) -> Iterator[dict[str, str]]:
        """Translate texts, several requests at a time.

        Raises:
            Refused: the endpoint refuses the request, or some texts have no translation after all tries.
        """
        size = self.section.batch_texts
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        problems: list[Refused | Trouble] = []
        missing = 0
        with ThreadPoolExecutor(self.section.num_parallel) as pool:
            waiting = [pool.submit(self._batch, batch, problems) for batch in batches]
            for done in as_completed(waiting):
                found, lacking = done.result()
                missing += len(lacking)
                if found:
                    yield found
        if problems:
            raise Refused(
                f"{self.section.url} left {missing:,} of {len(texts):,} texts untranslated: {problems[0]}. "
                "What was translated is kept, and running it again asks for the rest only. Look at the endpoint, or "
                "change source.engine (max_tries, batch_texts, num_parallel, timeout_seconds)."
            )

    def _batch(self, texts: list[str], problems: list[Refused | Trouble]) -> tuple[dict[str, str], list[str]]:
        """Translations of one batch and what is left of it; asks again for what an answer lacks."""
        found: dict[str, str] = {}
        pending, tries = list(texts), 0
        while pending and not any(isinstance(each, Refused) for each in problems):
            try:
                answer = self._ask(pending[: max(1, len(pending) >> max(0, tries - 1))])  # fewer after two failures
            except Refused as refused:
                problems.append(refused)
                break
            except Trouble as trouble:
                tries += 1
                if tries >= self.section.max_tries:
                    problems.append(trouble)
                    break
                self._wait(tries, trouble.wait_seconds)
                continue
            found |= answer
            pending = [text for text in pending if text not in found]
            tries = 0
        return found, pending

    def _wait(self, tries: int, asked: float | None) -> None:
        seconds = FIRST_WAIT_SECONDS * 2 ** (tries - 1) if asked is None else asked
        self.sleep(min(seconds, self.section.max_wait_seconds))

    def _ask(self, texts: list[str]) -> dict[str, str]:
        """One request: the translations that it gives, at least one.

        Raises:
            Trouble: none came; another try may bring some.
            Refused: the endpoint does not take such a request.
        """
        is_single = len(texts) == 1
        numbered = {str(number): text for number, text in enumerate(texts, start=1)}
        content = texts[0] if is_single else json.dumps(numbered, ensure_ascii=False)
        prompt = self.prompt if is_single else self.prompt + MANY
        body = {
            "model": self.section.model,
            "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": content}],
            "temperature": self.section.temperature,
            "max_tokens": self.section.max_answer_tokens,
        }
        said = _content(self._post(body))
        if is_single:
            return {texts[0]: said}
        answers = _object(said)
        found = {
            text: answers[number].strip()
            for number, text in numbered.items()
            if isinstance(answers.get(number), str) and answers[number].strip()
        }
        if not found:
            raise Trouble(f"an answer has none of the {len(texts)} numbered texts: {one_line(said, 120)}")
        return found

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.section.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 - http(s) by schema
        try:
            with _OPENER.open(request, timeout=self.section.timeout_seconds) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}: {self._without_key(error)}"
            if error.code in RETRIED:
                raise Trouble(reason, _seconds(error.headers.get("Retry-After"))) from None
            raise Refused(reason) from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise Trouble("an answer is not JSON") from None
        except (OSError, http.client.HTTPException) as error:  # no connection, it broke, it took too long
            raise Trouble(f"no answer: {one_line(error)}") from None

    def _without_key(self, error: urllib.error.HTTPError) -> str:
        said = one_line(error.read(2000).decode("utf-8", "replace"))
        return (said.replace(self.key, "***") if self.key else said) or "no words"


def _seconds(retry_after: str | None) -> float | None:
    """What `Retry-After` asks for: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _content(answer: Any) -> str:
    """What the model said."""
    try:
        choice = answer["choices"][0]
        said = choice["message"]["content"]
    except (TypeError, KeyError, IndexError):
        raise Trouble(f"an answer has no choices[0].message.content: {one_line(answer, 120)}") from None
    if not isinstance(said, str) or not said.strip():
        raise Trouble("an answer is empty")
    if choice.get("finish_reason") == "length":
        raise Trouble("an answer was cut at source.engine.max_answer_tokens")
    return said.strip()


def _object(said: str) -> dict[str, Any]:
    """The JSON object in an answer, which may stand in a fence."""
    start, end = said.find("{"), said.rfind("}")
    try:
        found = json.loads(said[start : end + 1])
    except ValueError:
        raise Trouble(f"an answer is no JSON object: {one_line(said, 120)}") from None
    return found if isinstance(found, dict) else {}
