"""What the package's metadata take from elsewhere: the repository's address and the README.

The address is written nowhere in the repository. ``REPOSITORY_URL`` holds it where there is one,
as in the release workflow; without it the metadata have no links, and the README's stay relative.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

BRANCH = "main"
# Targets of Markdown's links and of HTML's images that are neither absolute nor an anchor.
RELATIVE = re.compile(r'(\]\(|(?:src|srcset|href)=")(?!https?://|#)([^)"]+)')
IMAGES = (".png", ".svg")


class CustomMetadataHook(MetadataHookInterface):
  def update(self, metadata: dict) -> None:
    address = os.environ.get("REPOSITORY_URL", "").rstrip("/")
    text = Path(self.root, "README.md").read_text()
    if address:
      text = with_absolute_links(text, address)
      metadata["urls"] = {
        "Source": address,
        "Changelog": f"{address}/blob/{BRANCH}/CHANGELOG.md",
        "Issues": f"{address}/issues",
      }
    metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_absolute_links(text: str, address: str) -> str:
  """The README as package indexes show it, where relative links lead nowhere."""

  def absolute(link: re.Match) -> str:
    kind = "raw" if link[2].endswith(IMAGES) else "blob"
    return f"{link[1]}{address}/{kind}/{BRANCH}/{link[2]}"

  return RELATIVE.sub(absolute, text).replace("$REPOSITORY_URL", address)
