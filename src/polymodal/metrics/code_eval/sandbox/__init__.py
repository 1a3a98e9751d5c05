"""Run programs that nobody has read: what a model wrote, to see whether it does what was asked.

Programs run in forked processes, each of them in fresh globals; where one ends its process or exhausts it, the next
begins in another, so one that fails disturbs no other. Four things stand between a program and the machine:

1. `rules`: the program is parsed first, and refused unless it uses only what the list of syntax, names, attributes and
   modules allows (no imports but parts of five modules, no classes, no names or attributes with two underscores);
2. the builtins it is given are those of the list;
3. `confine`: limits on processor time, memory, files and processes, and no open file but the way its result goes;
4. on x86-64 and ARM64 a filter in the kernel: every system call fails that is not reading, writing what is open, or
   asking for memory. So no file, no network, no process, even if the program broke out of the rules.

What it is not: a boundary against someone who attacks it. Where the kernel's filter is missing, the rules alone keep a
program from files and network, and such rules have been broken before; with the filter, a program that broke out of
the rules could still claim that it passed. Programs that are suspected of intent belong on a machine of their own.
"""

from polymodal.metrics.code_eval.sandbox.run import Limits, Outcome, Program, Result, run

__all__ = ["Limits", "Outcome", "Program", "Result", "run"]
