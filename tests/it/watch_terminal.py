"""Runs a command in a pseudo-terminal of 80x24 and presses keys; checks how it leaves the terminal.

python watch_terminal.py EXPECTED KEYS COMMAND...

EXPECTED is a text that must appear before the keys are pressed; KEYS is text, or a signal (SIGTERM).
Prints what the command wrote; exits with its code, or 128 + signal.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

expected, keys, command = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]
control, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
before = termios.tcgetattr(terminal)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(terminal, number)
    os.execv(command[0], command)


def read_until(is_done, seconds):
    global output
    end = time.time() + seconds
    while time.time() < end:
        if is_done():
            return True
        if select.select([control], [], [], 0.1)[0]:
            output += os.read(control, 65536)
    return False


def has_ended():
    global status
    done, found = os.waitpid(child, os.WNOHANG)
    status = found if done else status
    return status is not None


output, status = b"", None
assert read_until(lambda: expected in output, 60), output
# Another size is drawn too.
size = len(output)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
os.kill(child, signal.SIGWINCH)
assert read_until(lambda: len(output) > size, 60), "nothing is drawn after a change of size"
if keys.startswith("SIG"):
    os.kill(child, getattr(signal, keys))
else:
    os.write(control, keys.encode().decode("unicode_escape").encode())
assert read_until(has_ended, 60), "it does not end"
read_until(lambda: False, 0.3)
assert b"\x1b[?1049h" in output and output.rindex(b"\x1b[?1049l") > output.rindex(b"\x1b[?1049h"), "the screen is not restored"
assert b"\x1b[?25h" in output[output.rindex(b"\x1b[?1049h"):], "the cursor is not shown again"
assert termios.tcgetattr(terminal) == before, "the terminal's mode is not restored"
sys.stdout.buffer.write(output)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status))
