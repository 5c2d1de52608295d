"""The console's screens: Textual over the views and the library; no logic of the bus lives here."""
