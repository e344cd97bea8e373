"""Systems from outside: a class of one's own, a command, a folder of outputs."""
