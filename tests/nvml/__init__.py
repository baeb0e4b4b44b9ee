"""A libnvidia-ml.so.1 and a libcuda.so.1 for machines without a GPU, driven by a scenario file; see `library.py`."""
