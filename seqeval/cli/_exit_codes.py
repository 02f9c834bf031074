"""The exit codes of all commands."""

SUCCESS = 0
BUG = 1
USER_ERROR = 2
FAILED_RUNS = 3
BROKEN_CONTRACT = 4
STOPPED = 130

HELP = f"""Exit codes:
  {SUCCESS}    success
  {USER_ERROR}    an error that you can correct; one line says how
  {FAILED_RUNS}    run: runs failed; their losses are not finite, or a plug-in or environment raised
  {BROKEN_CONTRACT}    check: the algorithm breaks the contract
  {STOPPED}  stopped by Ctrl-C or SIGTERM
  {BUG}    any other error, with a traceback"""
