"""FILES THAT ARE COPIED: names, places and partial files, alike at both ends; standard library only."""
