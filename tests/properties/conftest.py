"""One hypothesis profile: the same examples in every run, and no database on disk."""

import hypothesis

hypothesis.settings.register_profile(
  "flatopt", max_examples=60, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("flatopt")
