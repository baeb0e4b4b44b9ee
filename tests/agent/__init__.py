"""The machine's agent, on a scenario of NVML and against a small platform that speaks HTTP."""
