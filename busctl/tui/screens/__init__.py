"""The places of the console, one screen each."""
