"""PyArrow, of which no file and no stream can run code (CVE-2023-47248): whoever reads in a step takes it from here.

An Arrow schema may name the type `arrow.py_extension_type`, whose content is a pickle, and PyArrow before 14.0.1 loads
it. TFDV holds `validation` at PyArrow 10; the hotfix of PyArrow's own people makes that type an error.
"""

import pyarrow as pa
import pyarrow_hotfix  # noqa: F401

__all__ = ["pa"]
