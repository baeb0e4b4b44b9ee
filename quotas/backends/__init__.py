"""What really runs: list, launch, inspect, stop and remove the processes or containers of runs, by the run's UUID."""
