"""Writes the API reference: a page a module, a heading a public symbol, from the docstrings.

The pages are made from what can be imported, so a new function has its place without a line
here. A new public module has to be given one: the build fails until it is.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import flatopt

# Page, title, the text above the symbols, and the modules that export them.
PAGES = (
  (
    "methods",
    "Methods",
    "Every method is an `optax.GradientTransformationExtraArgs`. The [method pages](../index.md"
    "#the-methods) explain when to use which.",
    (
      ("Before the base optimizer", "flatopt.gradients"),
      ("Before or after the base optimizer", "flatopt.implicit_regularisation"),
      ("Around the base optimizer", "flatopt.wrappers"),
    ),
  ),
  (
    "optimizers",
    "States and params",
    "Functions that work with every method: they read an optimizer's state, check its order, freeze"
    " params, or end at the params to evaluate at.",
    (("", "flatopt"),),
  ),
  (
    "closures",
    "Closures",
    "Functions that make the closures for `update`. See the guide: [Closures](../closures.md).",
    (("", "flatopt.closures"),),
  ),
  (
    "frameworks",
    "Flax and Equinox",
    "Import each of these modules by its own name, such as `import flatopt.nnx`. It needs the library"
    " that it is for. `flatopt.equinox.sharp_loss` is [`flatopt.closures.sharp_loss`]"
    "(closures.md#flatopt.closures.sharp_loss).",
    (
      ("Flax Linen", "flatopt.linen"),
      ("Flax NNX", "flatopt.nnx"),
      ("Equinox", "flatopt.equinox"),
    ),
  ),
  (
    "curvature",
    "Curvature",
    "Estimators of the Hessian's diagonal. See the guide: [Curvature](../curvature.md).",
    (("", "flatopt.curvature"),),
  ),
  (
    "schedules",
    "Schedules",
    "Schedules that optax does not have. Any function `count -> value` is a schedule.",
    (("", "flatopt.schedules"),),
  ),
  (
    "sharpness",
    "Sharpness",
    "Measures of how flat a minimum is. You can jit them all; outside `jit`, every call is compiled. See the"
    " guide: [Measuring sharpness](../sharpness.md).",
    (("", "flatopt.sharpness"),),
  ),
  (
    "plots",
    "Plots",
    "Figures of the results of `flatopt.sharpness`. They need matplotlib: `pip install"
    ' ".[plots]"` in a clone. To draw several panels into one figure, pass axes of `pyplot.subplots(1, 2,'
    ' layout="constrained")` as `ax`; without this layout, labels overlap.',
    (("", "flatopt.plots"),),
  ),
)


def public_names(module: ModuleType) -> list[str]:
  """Functions and classes without an underscore that the module, or one inside it, defines."""
  inside = (module.__name__, module.__name__ + ".")
  return [
    name
    for name, value in vars(module).items()
    if not name.startswith("_")
    and (inspect.isfunction(value) or inspect.isclass(value))
    and (value.__module__ == inside[0] or value.__module__.startswith(inside[1]))
  ]


def address_of(module: ModuleType, name: str) -> str:
  """The name that users write: ``flatopt.sam``, ``flatopt.closures.check``."""
  value = getattr(module, name)
  return f"flatopt.{name}" if vars(flatopt).get(name) is value else f"{module.__name__}.{name}"


def where_defined(address: str) -> str:
  """The module and name that a docstring is read from: files are often named like what they hold."""
  value = functools.reduce(getattr, address.split(".")[1:], flatopt)
  return f"{value.__module__}.{value.__qualname__}"


def sections(pages=PAGES) -> dict[str, list[tuple[str, list[str]]]]:
  """Of every page, its sections: heading and addresses. No address stands twice."""
  seen, by_page = set(), {}
  for page, _, _, modules in sorted(pages, key=lambda page: page[0] == "optimizers"):
    by_page[page] = []
    for heading, module_name in modules:
      if importlib.util.find_spec(module_name) is None:
        continue
      module = importlib.import_module(module_name)
      addresses = sorted(address_of(module, name) for name in public_names(module))
      by_page[page].append((heading, [a for a in addresses if a not in seen]))
      seen.update(addresses)
  return by_page


def missing(by_page: dict[str, list[tuple[str, list[str]]]]) -> set[str]:
  """Public symbols of all public modules that have no place.

  Of a module that ``flatopt`` exports something of, what it exports is public; of others, all.
  """
  placed = {address for parts in by_page.values() for _, names in parts for address in names}
  every = set()
  for info in pkgutil.iter_modules(flatopt.__path__, "flatopt."):
    if not info.name.startswith("flatopt._"):
      module = importlib.import_module(info.name)
      addresses = {address_of(module, name) for name in public_names(module)}
      exported = {address for address in addresses if address.count(".") == 1}
      every |= exported or addresses
  return every - placed


def text_of(page: str, title: str, intro: str, parts: list[tuple[str, list[str]]]) -> str:
  lines = [f"# {title}", "", intro, ""]
  for heading, addresses in parts:
    if heading:
      lines += [f"## {heading}", ""]
    marks = "###" if heading else "##"
    for address in addresses:
      # The table of contents has the last name only: it would cut off longer ones.
      attributes = f'{{ #{address} data-toc-label="{address.rpartition(".")[2]}" }}'
      lines += [f"{marks} `{address}` {attributes}", "", f"::: {where_defined(address)}", ""]
  return "\n".join(lines)


def on_page_content(content: str, **_) -> str:
  """Without the space that the renderer leaves between a default and its bracket."""
  return re.sub(r"(</code>)\s+\)", r"\1)", content)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  by_page = sections()
  if absent := missing(by_page):
    raise PluginError(
      f"no page of the reference has {', '.join(sorted(absent))}: name its module in {__file__}"
    )
  for page, title, intro, _ in PAGES:
    content = text_of(page, title, intro, by_page[page])
    files.append(File.generated(config, f"reference/{page}.md", content=content))
  return files
