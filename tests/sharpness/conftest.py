"""The same haste as the contract tests'."""

from tests.conformance.conftest import quick_compilation as quick_compilation
