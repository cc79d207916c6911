"""Tells every page the version that it was made from and, where one is known, the repository.

The repository's address is written nowhere; ``REPOSITORY_URL`` holds it where the site is published.
"""

import os

from mkdocs.config.defaults import MkDocsConfig

import flatopt


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  config.copyright = f"flatopt {flatopt.__version__} · Apache-2.0"
  if address := os.environ.get("REPOSITORY_URL", "").rstrip("/"):
    config.repo_url = address
    config.repo_name = "/".join(address.split("/")[-2:])
    config.edit_uri = f"{address}/edit/main/docs/"
  return config
