"""Named entries that users choose from and other packages add to."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from experiments.config.refusal import Refusal

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
  """Entries by name, in the order in which they were added; ``aliases`` are older names of some."""

  def __init__(self, kind: str):
    self.kind = kind  # what an entry is called in errors
    self.aliases: dict[str, str] = {}
    self._entries: dict[str, Entry] = {}

  def add(self, name: str, entry: Entry, aliases: Iterable[str] = ()) -> None:
    if name in self._entries or name in self.aliases:
      raise ValueError(f"two {self.kind}s are called {name}")
    self._entries[name] = entry
    self.aliases |= dict.fromkeys(aliases, name)

  def current_name(self, name: str) -> str:
    """The present name of an older one; any other name is returned as it is."""
    return self.aliases.get(name, name)

  def find(self, name: str, among: Iterable[str] | None = None) -> Entry:
    """The entry of a name that a user gave; an unknown name is refused with the list of all."""
    names = list(self if among is None else among)
    if self.current_name(name) not in names:
      raise Refusal(unknown(self.kind, name, names))
    return self[name]

  def __getitem__(self, name: str) -> Entry:
    return self._entries[self.current_name(name)]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
  """The error for an unknown name, with the most similar name that exists."""
  names = list(names)
  near = difflib.get_close_matches(name, names, n=1)
  meant = f" (did you mean {near[0]}?)" if near else ""
  return f"unknown {kind} {name}{meant}: choose from {', '.join(names)}"
