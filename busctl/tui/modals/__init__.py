"""Questions and answers above the place one is at."""
