"""A run's progress bar, and its result as a sentence."""

from typing import Any

from rich import progress
from rich.console import Console


def sentence(result: dict[str, Any]) -> str:
  split = "validation" if "validation_loss" in result else "test"
  loss, accuracy = result[f"{split}_loss"], result[f"{split}_accuracy"]
  reached = (
    "Diverged"
    if loss is None
    else f"{split.capitalize()} loss {loss:.4f}, {split} accuracy {accuracy:.2f} %"
  )
  return (
    f"{reached}; {result['steps']} steps, {result['gradients']} gradients,"
    f" {result['steps_per_second']:.1f} steps a second, {result['peak_memory_mb']:.0f} MB at most"
  )


def progress_display(console: Console) -> progress.Progress:
  return progress.Progress(
    progress.TextColumn("{task.description}"),
    progress.BarColumn(bar_width=30),
    progress.TaskProgressColumn(),
    progress.TextColumn("{task.fields[note]}"),
    progress.TimeRemainingColumn(),
    console=console,
    refresh_per_second=2,  # rich's ten take the time of one step in a hundred
  )
