"""The error that a user can fix."""


class Refusal(Exception):
  """An error that the user can fix, with a message of one line."""

  code = 2  # that the program exits with


def reason(error: Exception) -> str:
  """The first line of an error's message."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
