"""What a layer leaves out of its packages, so that a function and its layers stay inside Lambda's limit.

Whole files are left out and nothing is edited: stripping binaries misaligns some of scipy's libraries, which then
fail to load.
"""

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

# Folders that no import reaches, wherever they stand.
_FOLDERS = frozenset({"__pycache__", "_pyinstaller", "include", "tests"})

# Sources, headers, stubs and build descriptions: what a compiler or an editor reads.
_SUFFIXES = frozenset(
    {
        ".a", ".build", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".h", ".hpp", ".in", ".pxd", ".pxi", ".pyi", ".pyx",
        ".proto", ".tp", ".typed",
    }
)  # fmt: skip

# Parts of single packages, as patterns of the path inside the layer.
_PATTERNS = (
    # Programs and stubs beside the packages.
    "bin/*",
    "*-stubs/*",
    # Powertools: the page that shows an OpenAPI document; no function serves one.
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.css",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.js",
    # narwhals: backends of data frames; scikit-learn gets arrays here.
    "narwhals/_arrow/*",
    "narwhals/_dask/*",
    "narwhals/_duckdb/*",
    "narwhals/_ibis/*",
    "narwhals/_interchange/*",
    "narwhals/_pandas_like/*",
    "narwhals/_polars/*",
    "narwhals/_spark_like/*",
    "narwhals/_sql/*",
    # pyarrow: Flight, ORC, remote file systems and Parquet encryption (objects are read with boto3), and copies of
    # libraries under names that nothing links (the SONAME copy stays). libarrow_substrait is linked by everything.
    "pyarrow/_azurefs*",
    "pyarrow/_dataset_orc*",
    "pyarrow/*_parquet_encryption*",
    "pyarrow/_flight*",
    "pyarrow/_gcsfs*",
    "pyarrow/_hdfs*",
    "pyarrow/_orc*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/_s3fs*",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/libarrow_s3*",
    "pyarrow/src/*",
    # onnxruntime: a library that its Python module does not link, model tooling, example models, notices.
    "onnxruntime/ThirdPartyNotices.txt",
    "onnxruntime/backend/*",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/datasets/*",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/transformers/*",
    # onnx: models and data for the tests of other runtimes.
    "onnx/backend/test/*",
    # onnx: an interpreter in Python; models run on ONNX Runtime.
    "onnx/reference/*",
    # Tests and test data under other names.
    "google/protobuf/testdata/*",
    "joblib/test/*",
    # scipy: modules that no estimator of ours imports, tables of quasi-random numbers, a reader of Matrix Market files.
    "scipy/cluster/*",
    "scipy/datasets/*",
    "scipy/differentiate/*",
    "scipy/fftpack/*",
    "scipy/io/_fast_matrix_market/_fmm_core*",
    "scipy/misc/*",
    "scipy/odr/*",
    "scipy/signal/*",
    "scipy/stats/_sobol_direction_numbers.npz",
    "scipy/stats/_unuran/*",
    # PyYAML: the binding of a library in C; files are small.
    "yaml/_yaml*",
    # skops: model cards and a command line; only its persistence is used.
    "skops/card/*",
    "skops/cli/*",
    # scikit-learn: example tables and pictures.
    "sklearn/datasets/data/*",
    "sklearn/datasets/descr/*",
    "sklearn/datasets/images/*",
)


def is_left_out(path: PurePosixPath) -> bool:
    """Tell whether a file of an installed package stays out of the layer.

    Of the installation records (``*.dist-info``) only ``METADATA`` stays: ``importlib.metadata`` reads the version
    there, and so do vulnerability scanners of Lambda layers.

    Parameters
    ----------
    path : PurePosixPath
        Path relative to the layer's ``python`` folder.
    """
    if path.parts[0].endswith(".dist-info"):
        return path.parts[1:] != ("METADATA",)
    if path.parts[0].startswith("."):  # an installer's own
        return True
    if path.suffix in _SUFFIXES or not _FOLDERS.isdisjoint(path.parts[:-1]):
        return True
    return any(fnmatchcase(str(path), pattern) for pattern in _PATTERNS)
