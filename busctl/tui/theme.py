"""The console's colours: text at 7:1 and more on its ground, states at 5:1 and more."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="busctl-dark",
    primary="#6cb6ff",
    secondary="#8ddb8c",
    accent="#f2b866",
    foreground="#dfe5ec",
    background="#0f1419",
    surface="#151b22",
    panel="#1d252e",
    success="#7fd18a",
    warning="#f0c05a",
    error="#ff7b72",
    dark=True,
    variables={
        "muted": "#8b98a5",
        "row-cursor": "#1f3b57",
        "border": "#3a4653",
        "border-blurred": "#2a343f",
        "input-cursor-background": "#6cb6ff",
        "scrollbar": "#3a4653",
        "scrollbar-hover": "#52606e",
        "scrollbar-active": "#6cb6ff",
        "scrollbar-background": "#0f1419",
        "scrollbar-background-hover": "#0f1419",
        "scrollbar-background-active": "#0f1419",
    },
)
LIGHT = Theme(
    name="busctl-light",
    primary="#0550ae",
    secondary="#116329",
    accent="#8a4600",
    foreground="#1c2128",
    background="#fbfcfd",
    surface="#f3f5f8",
    panel="#e6eaef",
    success="#116329",
    warning="#7a5200",
    error="#b3261e",
    dark=False,
    variables={
        "muted": "#57606a",
        "row-cursor": "#cfe3fb",
        "border": "#b6c0ca",
        "border-blurred": "#d3dae1",
        "scrollbar": "#b6c0ca",
        "scrollbar-background": "#fbfcfd",
    },
)
THEMES = (DARK, LIGHT)
