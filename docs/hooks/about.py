"""Tells every page the version that it was made from and, where one is known, the repository.

The repository's address is written nowhere; ``REPOSITORY_URL`` holds it where the site is published.
"""

import os

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

import flatopt


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  config.copyright = f"flatopt {flatopt.__version__} · Apache-2.0"
  if address := os.environ.get("REPOSITORY_URL", "").rstrip("/"):
    config.repo_url = address
    config.repo_name = "/".join(address.split("/")[-2:])
    config.edit_uri = f"{address}/edit/main/docs/"
  return config


def on_page_markdown(markdown: str, page: Page, **_) -> str:
  """The search shows a method's own page before others that name it."""
  if page.file.src_uri.startswith("methods/"):
    page.meta["search"] = {"boost": 2}
  return markdown
