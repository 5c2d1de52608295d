"""How each type of the bus is shown: columns, words, tones. Pure: no I/O, no terminal."""
