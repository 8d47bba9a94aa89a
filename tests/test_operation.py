"""A week in minutes: the clock fires, new data have come, a challenger is trained, a person approves, the Hub has it.

Everything is real and on loopback: `hiraku serve`, a Prefect server, an MLflow server, a DVC remote, the stages of the
smoke recipe; only the Hub is a stand-in, which the unmodified client speaks to. The pages that a person would look at
are kept as pictures where SCREENSHOTS names a folder and this machine has a Chromium.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components import paths, registry
from flows import server
from tests.conftest import ROOT
from tests.flows import hub_server
from tests.flows.test_launch import wait_until
from tests.smoke import write_smoke_data, write_smoke_news

RECIPE = "smoke-gpt2"
REPOSITORY = f"hiraku/{RECIPE}"
PATIENCE = 900
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


class Week:
    """The project, its servers and their addresses."""

    def __init__(self, root: Path, hub: hub_server.Hub) -> None:
        self.root, self.hub = root, hub
        self.project, self.inbox, self.log = root / "project", root / "inbox", root / "serve.log"
        ports = {name: server.free_port() for name in ("prefect", "mlflow")}
        self.prefect, self.mlflow = (f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow"))
        self.ports = ports
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "HF_"))}
        self.environment = kept | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.project),
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_HOME": str(root / "prefect"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "MLFLOW_TRACKING_URI": self.mlflow,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub_server.TOKEN,
        }

    def run(self, *words: str) -> str:
        """A program in the project; its failure is the test's."""
        done = subprocess.run(
            words, cwd=self.project, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write_project(self) -> None:
        """A clone of this project whose own recipe has a clock of every two minutes and follows a folder."""
        listed = self._listed()
        for name in listed:
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.project / name)
        mine = self.project / "recipes" / "mine"
        shutil.copytree(ROOT / "tests" / "recipes", mine)
        for path in mine.glob("smoke-*.yaml"):
            if path.stem != RECIPE:
                path.unlink()
        write_smoke_data(self.project)
        self.inbox.mkdir()
        _change(mine / "corpora" / "smoke-text.yaml", follow={"folder": str(self.inbox), "settle_seconds": 0})
        _change(
            mine / f"{RECIPE}.yaml",
            schedule={"cron": "*/2 * * * *", "promote": "ask", "max_drift": 5.0},
            promote={"approval": True},
            publish={"repository": REPOSITORY},
        )
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.email", "somebody@example.org")
        self.run("git", "config", "user.name", "Somebody")
        self.run("dvc", "remote", "modify", "local", "url", str(self.root / "remote"))
        self.run("dvc", "add", "--quiet", "data")
        self.run(sys.executable, "-m", "flows", "graph")
        self.run("git", "add", ".")
        self.run("git", "commit", "--quiet", "--message", "A project")

    def _listed(self) -> list[str]:
        words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "components", "flows", "models"]
        done = subprocess.run([*words, ".dvc", ".gitignore"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]

    def start(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """A server in the project's environment."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                words, cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Prefect's API; asked again where that cannot do harm, as its SQLite may be busy for long."""
        import httpx

        for attempt in range(6):
            try:
                answer = httpx.request(method, f"{self.prefect}/api{path}", json=body, timeout=60)
            except httpx.ReadTimeout:
                if attempt == 5 or not path.endswith("/filter"):
                    raise
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(2**attempt)
        answer.raise_for_status()
        return answer.json()

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Flow runs that began, oldest first."""
        wanted = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC", "limit": 200}
        return [run for run in self.ask("POST", "/flow_runs/filter", **wanted) if run["start_time"]]

    def alias(self, name: str) -> str:
        """The version that an alias of the model points at; empty if none."""
        return registry.aliases(RECIPE).get(name, "")

    def picture(self, name: str, url: str) -> None:
        """Keep a page as a picture, for a person to look at."""
        folder = os.environ.get("SCREENSHOTS")
        if not (folder and CHROMIUM):
            return
        place = Path(folder).resolve()
        place.mkdir(parents=True, exist_ok=True)
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,1100"]
        words += ["--virtual-time-budget=25000", f"--screenshot={place / f'{name}.png'}", url]
        subprocess.run([CHROMIUM, *words], capture_output=True, check=False, timeout=120)


def _change(path: Path, **sections: Any) -> None:
    read = yaml.safe_load(path.read_text(encoding="utf-8")) | sections
    path.write_text(yaml.safe_dump(read, allow_unicode=True), encoding="utf-8")


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    """Everything started, and ended whatever happens."""
    with hub_server.serving() as hub:
        made = Week(tmp_path, hub)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.mlflow)
        made.project.mkdir()
        made.write_project()
        mlflow = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(made.ports["mlflow"])]
        mlflow += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        mlflow += ["--artifacts-destination", str(tmp_path / "mlflow-artifacts")]
        prefect = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(made.ports["prefect"])]
        made.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        started = []
        try:
            started += [made.start(*mlflow, log=tmp_path / "mlflow.log")]
            started += [made.start(*prefect, log=tmp_path / "prefect.log")]
            wait_until(lambda: server.answers(f"{made.prefect}/api/health"), "no Prefect", server.START_SECONDS)
            wait_until(lambda: server.answers(f"{made.mlflow}/health"), "no MLflow", server.START_SECONDS)
            started += [made.start(sys.executable, "-m", "flows", "serve", log=made.log)]
            wait_until(lambda: "Ctrl-C stops" in made.log.read_text(), "nothing is served", server.START_SECONDS)
            yield made
        finally:
            for process in reversed(started):
                _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
        child.kill()
    process.kill()
    process.wait()


def approve(week: Week, version: str) -> None:
    """Wait for the question, and give the answer that Prefect's form would send."""
    asked = lambda: [run for run in week.runs("promote") if run["state"]["name"] == "Suspended"]  # noqa: E731
    wait_until(lambda: bool(asked()), f"nobody is asked about version {version}", PATIENCE)
    (run,) = asked()
    week.picture(f"approval-of-version-{version}", f"{week.prefect}/runs/flow-run/{run['id']}")
    given = {"approve": True, "name": "anna", "note": "it reads well"}
    # Prefect says Suspended a moment before it has saved the form.
    resumed = lambda: week.ask("POST", f"/flow_runs/{run['id']}/resume", run_input=given)["status"] == "ACCEPT"  # noqa: E731
    wait_until(resumed, "the answer is not taken")
    wait_until(lambda: week.alias("champion") == version, f"version {version} is no champion", PATIENCE)
    ended = lambda: {run["state"]["type"] for run in week.runs("promote")} <= {"COMPLETED"}  # noqa: E731
    wait_until(ended, "a promotion does not end", PATIENCE)


def same_logits(week: Week, cache: Path) -> bool:
    """What the Hub's main branch answers, loaded by its address, beside the package that was made."""
    program = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "answers = []\n"
        "for name in sys.argv[1:]:\n"
        "    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)\n"
        "    answers.append(model(**tokenizer('町の朝', return_tensors='pt')).logits)\n"
        "print(torch.equal(*answers))\n"
    )
    package = week.project / paths.layout(RECIPE, "transformers")
    week.environment |= {"HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    return week.run(sys.executable, "-c", program, REPOSITORY, str(package)).strip() == "True"


@pytest.mark.slow
def test_the_clock_fires_new_data_train_a_challenger_and_after_approval_the_hub_has_it(
    week: Week, tmp_path: Path
) -> None:
    approve(week, "1")
    assert same_logits(week, tmp_path / "first")
    before = week.hub.sha(REPOSITORY)

    nothing = lambda: [run for run in week.runs("retrain") if run["state"].get("message") == "nothing new"]  # noqa: E731
    wait_until(lambda: bool(nothing()), "the clock does not fire again", PATIENCE)
    assert len(week.runs("promote")) == 1

    write_smoke_news(week.root, week.inbox / "news.jsonl")
    approve(week, "2")
    assert week.hub.sha(REPOSITORY) != before
    assert same_logits(week, tmp_path / "second")
    assert (week.project / "data" / "smoke" / "news.jsonl").is_file()

    said = week.run(sys.executable, "-m", "flows", "compare", RECIPE)
    assert "began" in said
    assert "pretrain/" in said
    time.sleep(2)
    week.picture("prefect-runs", f"{week.prefect}/runs")
    week.picture("prefect-deployments", f"{week.prefect}/deployments")
    week.picture("mlflow-runs", f"{week.mlflow}/#/experiments/1/runs")
    week.picture("mlflow-model", f"{week.mlflow}/#/models/{RECIPE}")
    week.picture("mlflow-version-2", f"{week.mlflow}/#/models/{RECIPE}/versions/2")
