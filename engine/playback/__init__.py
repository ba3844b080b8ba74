"""Player files (`.gs4dclip`): baking a moving scene, the file format, and the self-contained web page."""
