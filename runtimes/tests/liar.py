"""A process that says of itself what it likes: its environment begins with the argument and is 600 MiB long (prctl(2),
PR_SET_MM_MAP). It ends with its standard input."""
import ctypes, mmap, os, struct, sys

names = sys.argv[1].replace(" ", "\0")
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
size = 600 << 20
said = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
text = names.encode() + b"\0"
said[: len(text)] = text
start = ctypes.addressof(ctypes.c_char.from_buffer(said))
stat = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
field = lambda number: int(stat[number - 3])
brk = libc.sbrk(0)
layout = struct.pack(
    "=12QII", field(26), field(27), field(45), field(46), field(47), brk, field(28), field(48), field(49),
    start, start + size, 0, 0, 0xFFFFFFFF,
)
if libc.prctl(35, 14, layout, len(layout), 0):
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.read()
