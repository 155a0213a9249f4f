"""The modules that a skill can import, and what does the same as those that are often asked for in vain."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skill_runtime.check.syntax import by_name, words

ALLOWED_STANDARD = words(
    "abc argparse array ast asyncio atexit base64 binascii bisect bz2 calendar cmath codecs collections "
    "colorsys concurrent configparser contextlib contextvars copy csv dataclasses datetime decimal "
    "difflib email enum errno fcntl filecmp fileinput fnmatch fractions ftplib functools getopt getpass "
    "glob graphlib gzip hashlib heapq hmac html http imaplib io ipaddress itertools json keyword "
    "linecache locale logging lzma math mimetypes mmap netrc ntpath numbers operator os pathlib platform "
    "plistlib poplib posixpath pprint queue quopri random re reprlib resource sched secrets select "
    "selectors shlex shutil signal smtplib socket sqlite3 ssl stat statistics string stringprep struct "
    "sys tarfile tempfile textwrap threading time token tokenize tomllib traceback types typing "
    "unicodedata unittest urllib uuid warnings wave weakref xml xmlrpc zipfile zlib zoneinfo"
)
"""The modules of the standard library that a skill can import. Other modules come from the base image."""
DENIED_MODULES = frozenset(("cloudpickle", "dill", "joblib"))
"""Libraries that a base image may hold and that run what they read."""
SUBSTITUTES = by_name(
    {
        "json": "pickle cPickle marshal shelve dill cloudpickle joblib orjson ujson simplejson rapidjson jsonpickle",
        "tomllib": "toml tomli tomlkit rtoml",
        "zoneinfo": "pytz tzlocal",
        "dateutil": "dateparser arrow pendulum maya ciso8601 iso8601 isodate",
        "requests": "httpx aiohttp urllib3 urllib2 httplib2 pycurl",
        "re": "regex re2",
        "dataclasses": "attr attrs",
        "pydantic": "marshmallow cerberus voluptuous msgspec",
        "time": "timeit",
        "concurrent.futures": "multiprocessing gevent eventlet trio ray dask celery",
        "numpy": "scipy sklearn statsmodels numexpr numba cupy jax",
        "pandas": "polars modin vaex",
        "bs4": "BeautifulSoup html5lib pyquery selectolax parsel",
        "lxml": "xmltodict untangle defusedxml",
        "openpyxl": "xlrd xlwt xlsxwriter",
        "yaml": "ruamel oyaml strictyaml",
        "jinja2": "mako chevron pystache",
        "tabulate": "prettytable texttable rich",
        "difflib": "Levenshtein rapidfuzz fuzzywuzzy thefuzz jellyfish editdistance",
        "unicodedata": "unidecode slugify ftfy",
        "urllib.parse": "urlparse furl yarl",
        "html": "HTMLParser",
        "io": "StringIO cStringIO",
        "queue": "Queue",
        "configparser": "ConfigParser configobj",
        "hashlib": "xxhash mmh3",
        "secrets": "shortuuid nanoid",
        "fractions": "gmpy2 mpmath sympy",
        "graphlib": "networkx toposort",
        "heapq": "sortedcontainers",
        "itertools": "more_itertools toolz funcy",
        "collections": "bidict addict munch",
        "logging": "loguru structlog",
        "argparse": "click typer docopt optparse",
        "zlib": "zstandard lz4 snappy brotli",
    }
)
"""Modules that code asks for by habit, with one for skills that does the same, or enough of it."""
HIDDEN_MODULES = sys.stdlib_module_names - ALLOWED_STANDARD - words("cmd code profile site test this trace")
"""Modules that cannot be imported, nor reached as members of others; without names that other members bear, too."""


@dataclass(frozen=True)
class AvailableModules:
    """AvailableModules holds the modules that can be imported."""

    modules: frozenset[str]
    by_distribution: Mapping[str, str]
    """The module of a distribution, by the distribution's name."""

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> AvailableModules:
        """Read the modules from the manifest of the base image."""
        standard = ALLOWED_STANDARD.intersection(manifest["standard"])
        modules = (frozenset(manifest["modules"]) | standard) - DENIED_MODULES
        by_distribution = {_normalize(by): module for module, by in sorted(manifest["modules"].items(), reverse=True)}
        return cls(modules, by_distribution)

    def suggest(self, name: str) -> str:
        """Return what does the same here, as a hint in a message; empty where nothing is known to.

        The nearest spelling would mislead: of matplotlib it is smtplib.
        """
        if (module := self.by_distribution.get(_normalize(name))) is not None:
            return f"; it is imported as {module!r}"
        substitute = SUBSTITUTES.get(name, "")
        is_there = substitute.partition(".")[0] in self.modules
        return f"; use `{substitute}` instead" if is_there else ""


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
