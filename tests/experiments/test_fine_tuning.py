"""Fine-tuned models: each starts where its method's run is evaluated, and what it forgets is told
from the losses of both corpora."""

import csv
import json

import jax
import numpy as np
import pytest
from rich.console import Console

import flatopt
from experiments import presets
from experiments.commands.program import main
from experiments.comparisons import equal_budgets, fine_tuning
from experiments.comparisons.directory import to_json
from experiments.config import Refusal, files
from experiments.measures.quantisation import quantise
from experiments.reports import directory as report
from experiments.training import loop, run_directory, saved_runs
from tests.experiments import runs
from tests.experiments.small import changed, shrunk

QUIET = Console(quiet=True)
LLAMA = changed(
  shrunk(presets.CONFIGS["llama-0.9m"]),
  data={"batch_size": 8, "test_examples": 20},
  training={"budget": 7, "evaluations": 1},
)
PRETRAINED = equal_budgets.Comparison(LLAMA, ("adamw", "lookahead"), 2, "steps", 7)
RATES = 1e-3, 1e-2


def of_comparison(directory, out, data, **options):
  settings = {"steps": 3, "learning_rates": RATES, "bits": (8, 3), "examples": None} | options
  return fine_tuning.of_comparison(directory, out, data=data, **settings)


@pytest.fixture
def listed(tmp_path):
  """A finished comparison as its files tell it, without what was trained."""
  out = tmp_path / "pretrained"
  files.write_json(out / "compare.json", to_json(PRETRAINED))
  files.write_json(out / "results.json", {})
  for method in PRETRAINED.methods:
    for seed in range(PRETRAINED.seeds):
      run_directory.write_config(out / "runs" / method / f"seed-{seed}", LLAMA)
  return out


def test_all_runs_take_the_base_s_steps_from_where_they_are(listed, tmp_path):
  out = tmp_path / "elsewhere" / "tuned"
  compared = of_comparison(listed, out, "text_files:length=16", examples=9)
  assert (compared.methods, compared.seeds) == (("adamw", "lookahead"), 2)
  config = fine_tuning.run_config(compared, "lookahead", 1, 1e-2)
  assert config.opt == changed(presets.find("llama-0.9m", "adamw"), opt={"learning_rate": 1e-2}).opt
  assert (config.training.budget, config.training.unit, config.training.seed) == (3, "steps", 1)
  run = out.joinpath(*fine_tuning.path_of("lookahead", 1, 1e-2))
  start = (run / config.training.start_from).resolve()
  assert start == (listed / "runs" / "lookahead" / "seed-1").resolve()
  assert config.data.set == presets.data_set("text_files:length=16")
  assert compared.first.set == LLAMA.data.set
  assert compared.first.test_examples == config.data.test_examples == 9
  assert of_comparison(listed, out, "text_files:length=16", learning_rates=()).learning_rates == (
    LLAMA.opt.learning_rate,
  )


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (
      ("--data", "digits"),
      "classification of 10 classes; the comparison was trained on next_token",
    ),
    (("--data", "standard_library:length=16"), "which the comparison was trained on"),
    (("--data", "text_files:length=16,vocab_size=257"), "corpora share bytes alone"),
    (("--data", "text_files"), "windows of 128 tokens: length=16 is the comparison's"),
    (("--data", "text_file"), "unknown data set text_file (did you mean text_files?)"),
    (("--steps", "0"), "training.budget must be at least 1; got 0"),
    (("--examples", "0"), "data.test_examples must be at least 1; got 0"),
    (("--bits", "4", "8"), "bits must be numbers from 16 to 2 that fall; got (4, 8)"),
    (("--learning-rates", "0.1", "0.1"), "--learning_rates must each be another; got (0.1, 0.1)"),
    (("--learning-rates", "-1"), "opt.learning_rate must be finite and at least 0; got -1.0"),
  ],
)
def test_refuses_in_one_line(flags, said, listed, tmp_path, capsys):
  own = () if flags[0] == "--data" else ("--data", "text_files:length=16")
  out = tmp_path / "tuned"
  assert main(["fine-tune", str(listed), "--out", str(out), *own, *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line
  assert not out.exists()


def test_refuses_what_is_no_finished_comparison(listed, tmp_path):
  with pytest.raises(Refusal, match=r"holds no comparison: there is no compare\.json"):
    of_comparison(tmp_path, tmp_path / "tuned", "text_files:length=16")
  (listed / "results.json").unlink()
  with pytest.raises(Refusal, match="the comparison is not finished"):
    of_comparison(listed, tmp_path / "tuned", "text_files:length=16")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
  """(the pre-trained comparison, the fine-tuned one, killed once, and the runs that it trained)."""
  root = tmp_path_factory.mktemp("forgetting")
  (root / "numbers.txt").write_text("".join(f"{i} is {i * i}.\n" for i in range(90_000)))
  with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    equal_budgets.compare(PRETRAINED, root / "pretrained", QUIET)
    data = f"text_files:length=16,directory={root / 'numbers.txt'}"
    compared = of_comparison(root / "pretrained", root / "tuned", data)
    tune = lambda: fine_tuning.fine_tune(compared, root / "tuned", QUIET)
    trained = runs.killed_once(tune, root / "tuned", at=3)
    report.write(root / "tuned", QUIET)
    yield root / "pretrained", root / "tuned", trained


@pytest.mark.slow  # twelve runs, as are those below
def test_repeats_no_finished_run(tuned):
  _, _, trained = tuned
  assert len(trained) == len(set(trained)) + 1  # the one that was killed
  assert set(trained) == {
    f"runs/{m}/seed-{s}/rate-{r:g}" for m in PRETRAINED.methods for s in (0, 1) for r in RATES
  }


@pytest.mark.slow
def test_results_are_those_of_the_runs(tuned):
  pretrained, out, _ = tuned
  before = json.loads((pretrained / "results.json").read_text())["runs"]
  results = json.loads((out / "results.json").read_text())
  for method, found in results["runs"].items():
    assert [(run["learning_rate"], run["seed"]) for run in found] == [
      (rate, seed) for rate in RATES for seed in (0, 1)
    ]
    for run in found:
      name = f"rate-{run['learning_rate']:g}"
      where = out / "runs" / method / f"seed-{run['seed']}" / name
      ended = json.loads((where / "summary.json").read_text())
      own = before[method][run["seed"]]["test_loss"]
      assert run["first_before_32"] == pytest.approx(own, rel=1e-5)
      assert run["second_after_32"] == pytest.approx(ended["test_loss"], rel=1e-5)
      assert run["second_after_32"] < run["second_before_32"]
      scores = np.load(where / "test_scores.npy")  # 20 windows in batches of 8
      assert (scores.shape, np.mean(scores)) == ((20,), pytest.approx(ended["test_loss"], rel=1e-5))
      assert run["steps"] == run["gradients"] == 3
      for bits in (32, 8, 3):
        rise = run[f"first_after_{bits}"] - run[f"first_before_{bits}"]
        assert run[f"forgetting_{bits}"] == pytest.approx(rise)
      for corpus in ("first", "second"):
        for when in ("before", "after"):
          assert run[f"{corpus}_{when}_3"] != run[f"{corpus}_{when}_32"]
  for rate in RATES:
    of_rate = {
      method: np.array([run["forgetting_3"] for run in found if run["learning_rate"] == rate])
      for method, found in results["runs"].items()
    }
    for row in results["tables"][f"{rate:g}"]["forgetting_3"]:
      own = of_rate[row["method"]]
      assert row["forgetting_3"] == pytest.approx(np.mean(own))
      assert row["difference"] == pytest.approx(np.mean(own - of_rate["adamw"]), abs=1e-12)
  with open(out / "results.csv") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 8
  assert {"method", "seed", "learning_rate", "first_before_32", "forgetting_8"} <= set(rows[0])


@pytest.mark.slow
def test_the_first_corpus_is_measured_with_the_fine_tuned_params(tuned):
  _, out, _ = tuned
  where = out / "runs" / "lookahead" / "seed-1" / "rate-0.01"
  found = json.loads((where / fine_tuning.LOSSES).read_text())
  run = saved_runs.restore(where)
  source = LLAMA.data.set.source("test")
  tokens = np.stack([source[i]["tokens"] for i in range(20)])
  for params, loss in (
    (run.params, found["first"][0]),
    (quantise(run.params, 3), found["first"][2]),
  ):
    logits = run.test_losses.model.apply({"params": params}, tokens[:, :-1], train=False)
    log_p = np.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1)
    assert loss == pytest.approx(-float(np.mean(log_p)), rel=1e-5)


@pytest.mark.slow
def test_starts_from_what_the_run_is_evaluated_at(tuned, tmp_path):
  pretrained, out, _ = tuned
  _, _, end = saved_runs.load_finished(pretrained / "runs" / "lookahead" / "seed-0")
  run = out / "runs" / "lookahead" / "seed-0"
  config = run_directory.read_config(run / "rate-0.001")
  (run / "again").mkdir()
  state = loop.Run(config, run / "again", QUIET).dispatcher.state
  expected = flatopt.eval_params(end.opt_state, end.params)
  jax.tree.map(np.testing.assert_array_equal, state.params, expected)
  apart = jax.tree.map(lambda x, y: bool(np.any(x != y)), end.params, expected)
  assert any(jax.tree.leaves(apart))


@pytest.mark.slow
def test_report_is_drawn_again_from_the_files(tuned, capsys):
  _, out, _ = tuned
  page = (out / "report.html").read_text()
  for text in ("Learning rate 0.001", "Learning rate 0.01", "forgetting,\n3 bits", "minus adamw"):
    assert text in page
  assert page.count("data:image/png;base64,") == 2
  names = "report.html", "fine-tuning.png", "fine-tuning-dark.png"
  for name in names:
    (out / name).unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page
  assert all((out / name).exists() for name in names)
  assert "forgetting" in capsys.readouterr().out
