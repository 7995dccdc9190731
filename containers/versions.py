"""The test in each image: imports the packages that are named, and prints which they are."""

import sys
from importlib import import_module, metadata

_DISTRIBUTIONS = metadata.packages_distributions()
for name in sys.argv[1:]:
    import_module(name)
    distribution = _DISTRIBUTIONS[name][0]
    print(distribution, metadata.version(distribution), flush=True)  # noqa: T201 - its purpose
