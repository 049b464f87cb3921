"""One file a command: a configuration, and ``run(config, terminal)`` that parses, builds, calls and writes.

The module name is the name on the command line, with hyphens for underscores. A module with several commands
has ``COMMANDS = {"info": run_info, ...}`` instead of ``run`` and becomes ``vltk store info``. The help is the
docstring of the configuration, which is the annotation of the first parameter of ``run``.
"""
