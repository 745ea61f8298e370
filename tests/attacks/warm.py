"""A warm Python that runs each command in a fork of itself: imports are paid for once.

Run as a script. Reads one JSON object a line (arguments or code, folder, environment, files for stdout, stderr and
what was opened), answers with the child's process number, and, when that has ended, with how.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import sys
import traceback
from pathlib import Path


def warm_up() -> None:
    """Import what the verbs import; no threads may be running when this process forks."""
    import matplotlib.pyplot as plt
    import monai.bundle
    import monai.engines
    import monai.handlers
    import monai.networks.nets
    import monai.transforms
    import SimpleITK
    import torch._dynamo
    import torch._inductor.config
    import torch.onnx
    import xxhash

    import volseg

    for module in pkgutil.walk_packages(volseg.__path__, "volseg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # What works on the meta device imports much more of torch when it is first called.
    with torch.device("meta"):
        torch.nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 4, 4, 4))
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    del plt, monai, xxhash


def note_opens(path: str) -> None:
    """Write down each file that Python opens, before it is opened."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "subprocess.Popen", "os.system", "socket.connect"):
            mode = arguments[1] if event == "open" else None
            flags = arguments[2] if event == "open" else None
            os.write(
                log, (json.dumps([event, str(arguments[0]), str(mode), str(flags), str(Path.cwd())]) + "\n").encode()
            )

    sys.addaudithook(note)


def run(order: dict[str, object]) -> int:
    os.setsid()
    for path, descriptor in ((os.devnull, 0), (order["stdout"], 1), (order["stderr"], 2)):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(str(path), flags, 0o600), descriptor)
    os.environ.update(order["environment"])  # type: ignore[arg-type]
    os.chdir(str(order["folder"]))
    note_opens(str(order["opened"]))
    import tempfile

    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        if order["code"] is not None:
            exec(str(order["code"]), {"__name__": "__main__"})  # noqa: S102
            return 0
        from volseg.cli.main import main

        return main(order["arguments"])  # type: ignore[arg-type]
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a shell would see of it
        traceback.print_exc()
        return 70


def serve() -> None:
    warm_up()
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = run(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                # As the interpreter would: threads and atexit handlers may keep a process waiting.
                import threading

                threading._shutdown()
                os._exit(code)
        print(child, file=answers, flush=True)
        _, status, usage = os.wait4(child, 0)
        answer = [os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
