"""Studies that compare ways of storing: tables and figures of accuracy against cells."""
