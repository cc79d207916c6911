"""Tells every page the version that it was made from and, where one is known, the repository.

The repository's address is written nowhere; ``REPOSITORY_URL`` holds it where the site is published. There,
``$REPOSITORY_URL`` in a page becomes the address, what says how to set it is left out, and the paths of the
repository's files become links.
"""

import os
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

import flatopt

VARIABLE = "REPOSITORY_URL"
WITHOUT = re.compile(rf"<!-- no {VARIABLE} -->.*?<!-- / -->\n", re.DOTALL)
PATH = re.compile(r"(?<!\[)`((?:benchmarks|examples|experiments|tests)/[\w./-]+)`")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  config.copyright = f"flatopt {flatopt.__version__} · Apache-2.0"
  if address := os.environ.get(VARIABLE, "").rstrip("/"):
    config.repo_url = address
    config.repo_name = "/".join(address.split("/")[-2:])
    config.edit_uri = f"{address}/edit/main/docs/"
  return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_) -> str:
  if page.file.src_uri.startswith("methods/"):
    page.meta["search"] = {"boost": 2}  # a method's own page comes before others that name it
  elif page.file.src_uri.startswith(("reference/", "evidence/")):
    page.meta["search"] = {"boost": 0.5}  # after the guides
  return with_repository(markdown, config.repo_url) if config.repo_url else markdown


def with_repository(markdown: str, address: str) -> str:
  """The page with the repository's address in its commands, and links to the files that it names."""
  linked = PATH.sub(rf"[`\1`]({address}/blob/main/\1)", WITHOUT.sub("", markdown))
  return linked.replace(f"${VARIABLE}", address)
