"""Text sets of TensorFlow Datasets."""

from experiments.config import files
from experiments.data.corpora import Corpus, held_out
from experiments.data.text import Windows, token_windows
from experiments.data.tfds_images import PREPARE, prepared_builder, random_access


def tfds_corpus(name: str, data_dir: str | None) -> Corpus:
  """The field "text" of a prepared set; validation is held out of train where it has none."""
  builder = prepared_builder(name, data_dir)
  if "text" not in (builder.info.features or {}):
    raise ValueError(f"{name} is no set of texts: it has no field text")
  holds_out = "validation" not in builder.info.splits

  def documents(split):
    whole = not holds_out or split == "test"
    with files.reading(builder.data_dir, PREPARE):
      for index, example in enumerate(random_access(builder, split if whole else "train")):
        if whole or held_out(f"train:{index}") == split:
          yield example["text"]

  name = builder.info.full_name.replace("/", "-")
  return Corpus(name, str(int(builder.info.dataset_size)), documents)


def tfds_text(
  split: str, *, name: str, length: int, data_dir: str | None = None, vocab_size: int | None = None
) -> Windows:
  return token_windows(tfds_corpus(name, data_dir), split, length=length, vocab_size=vocab_size)
