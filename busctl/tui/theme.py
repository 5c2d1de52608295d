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
        "row-cursor-style": "none",
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
        "row-cursor-style": "none",
        "border": "#b6c0ca",
        "border-blurred": "#d3dae1",
        "scrollbar": "#b6c0ca",
        "scrollbar-background": "#fbfcfd",
    },
)
SAFE = Theme(
    # Good is blue, bad is orange: told apart with any kind of colour blindness, and by their brightness.
    name="busctl-safe",
    primary="#8ab8ff",
    secondary="#c9c9c9",
    accent="#f0e442",
    foreground="#e6e6e6",
    background="#101214",
    surface="#17191c",
    panel="#212429",
    success="#56b4e9",
    warning="#f0e442",
    error="#ff9a3c",
    dark=True,
    variables={
        **DARK.variables,
        "muted": "#9aa0a6",
        "row-cursor": "#2b3a52",
        "scrollbar-background": "#101214",
        "scrollbar-background-hover": "#101214",
        "scrollbar-background-active": "#101214",
    },
)
PLAIN = Theme(
    name="busctl-plain",
    primary="#ffffff",
    secondary="#c8c8c8",
    accent="#ffffff",
    foreground="#dedede",
    background="#101010",
    surface="#181818",
    panel="#242424",
    success="#dedede",
    warning="#ffffff",
    error="#ffffff",
    dark=True,
    variables={
        "muted": "#9a9a9a",
        "row-cursor": "#3c3c3c",
        "row-cursor-style": "reverse",
        "border": "#4a4a4a",
        "border-blurred": "#333333",
        "input-cursor-background": "#ffffff",
        "scrollbar": "#4a4a4a",
        "scrollbar-background": "#101010",
    },
)
THEMES = (DARK, LIGHT, SAFE, PLAIN)


def theme_named(name: str | None, *, no_color: bool) -> str:
    """Give the theme to use: the named one, else the dark one; where no colour is wanted the one of greys."""
    if no_color:
        return PLAIN.name
    wanted = f"busctl-{(name or '').removeprefix('busctl-')}"
    return next((theme.name for theme in THEMES if theme.name == wanted), DARK.name)
