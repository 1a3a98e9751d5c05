"""Run untrusted generated programs, to test whether they are correct.

Programs run in forked processes, each in new globals. If a program ends or exhausts its process, or leaves memory
allocated, the next one starts in another process. So the result of a program does not depend on other programs or their
order. Tests run in globals of their own, and read the names of the program. A program cannot change the builtins of its
tests, nor the comparison of values, because the rules allow no classes. Four layers protect the machine:

1. `rules`: the program is parsed first, and rejected unless it uses only allowed syntax, names, attributes and modules
(imports only from parts of five modules, no classes, no names or attributes with double underscores);
2. it has only allowed builtins;
3. `confine`: limits on processor time, memory, files and processes; the only open file is the result pipe;
4. on x86-64 and ARM64 a kernel filter: every system call fails that is not reading, writing to open files, or
allocating memory. So there are no files, network or processes, even if a program escapes the rules.

This is not a security boundary against an attacker. Without the kernel filter, only the rules keep a program from files
and network, and such rules have been broken before. With the filter, a program that escapes the rules can still report
that it passed. Run programs of malicious origin on a separate machine.
"""

from polymodal.metrics.code_eval.sandbox.run import Limits, Outcome, Program, Result, run

__all__ = ["Limits", "Outcome", "Program", "Result", "run"]
