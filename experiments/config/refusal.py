"""What the user can mend."""


class Refusal(Exception):
  """What the user can mend, said in one line."""

  code = 2  # that the program exits with


def reason(error: Exception) -> str:
  """Its first line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
