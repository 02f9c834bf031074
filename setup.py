"""Finds the packages; everything else is in pyproject.toml.

They are the folders with an `__init__.py` in seqeval, and in algos and plots, which stand at the top of the
repository and are installed inside the package.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["seqeval", "seqeval.*"]),
        *(f"seqeval.{name}" for name in find_packages(include=["algos", "algos.*", "plots", "plots.*"])),
    ],
    package_dir={"seqeval": "seqeval", "seqeval.algos": "algos", "seqeval.plots": "plots"},
)
