"""The process that touches files, as the user: made of the standard library and `trunkline.files`."""
