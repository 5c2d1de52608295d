"""The clients measured: one file each, a function a task it can do."""
