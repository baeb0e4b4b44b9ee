"""`mudeung gpu-check`: on a machine with GPUs, what the platform does with them is done and measured beside NVML."""
